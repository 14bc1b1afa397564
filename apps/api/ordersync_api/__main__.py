"""`python -m ordersync_api`: the public API."""

import sys

from ordersync_api.main import main

if __name__ == "__main__":
    sys.exit(main())
