"""`python -m blixard` is the same as `blixard`."""

import sys

from blixard.cli import main

sys.exit(main())
