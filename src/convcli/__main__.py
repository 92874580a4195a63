"""``python -m convcli``, and the program."""

import sys


def main() -> int:
    """Run the command line; also Ctrl-C while it is being loaded ends in silence."""
    try:
        from convcli.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
