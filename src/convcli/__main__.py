"""``python -m convcli``."""

from convcli.cli.app import main

raise SystemExit(main())
