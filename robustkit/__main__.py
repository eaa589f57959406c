"""`python -m robustkit`: the command `robustkit`."""

import sys

from robustkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
