"""``python -m vitdyn`` is the command line."""

import sys

from vitdyn.cli import main

if __name__ == "__main__":
    sys.exit(main())
