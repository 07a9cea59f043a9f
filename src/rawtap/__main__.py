"""``python -m rawtap``."""

import sys

from rawtap.cli import main

sys.exit(main())
