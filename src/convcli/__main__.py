"""``python -m convcli``, and the program."""

import gc
import sys


def main() -> int:
    """Run the command line; also Ctrl-C while it is being loaded ends in silence."""
    gc.set_threshold(100_000)  # most objects are what was imported: to search them for garbage takes time at the start
    try:
        from convcli.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # and at the end


if __name__ == "__main__":
    sys.exit(main())
