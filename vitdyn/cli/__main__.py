"""``python -m vitdyn.cli``."""

import sys

from vitdyn.cli import main

sys.exit(main())
