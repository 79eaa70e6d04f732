"""`python -m mimic` is `mimic`."""

import sys

from mimic.cli.main import main

sys.exit(main())
