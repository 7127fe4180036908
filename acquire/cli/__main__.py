"""`python -m acquire.cli` is the `hotstage` command."""

import sys

from acquire.cli.app import main

sys.exit(main())
