"""`python -m securecfg` is the command line."""

import sys

from securecfg.cli import main

sys.exit(main())
