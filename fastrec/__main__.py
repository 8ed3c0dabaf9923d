"""``python -m fastrec``: the command line."""

import sys

from fastrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
