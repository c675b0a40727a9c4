"""``python -m sklearn_ssimae``: the command line."""

import sys

from sklearn_ssimae._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
