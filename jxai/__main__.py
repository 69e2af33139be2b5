"""`python -m jxai` is the command line."""

import sys

from jxai.cli import main

sys.exit(main())
