"""`python -m slem_app.cli`, the same as `slem`."""

import sys

from slem_app.cli import main

sys.exit(main())
