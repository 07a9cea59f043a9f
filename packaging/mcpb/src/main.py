"""What the bundle's host starts: the command line."""

import sys

from rawtap.cli import main

sys.exit(main())
