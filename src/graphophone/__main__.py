"""``python -m graphophone`` is the command line."""

import sys

from graphophone.cli import main

sys.exit(main())
