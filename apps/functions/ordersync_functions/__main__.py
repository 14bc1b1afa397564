"""`python -m ordersync_functions`: the local host."""

import sys

from ordersync_functions.main import main

if __name__ == "__main__":
    sys.exit(main())
