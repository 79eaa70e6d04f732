"""`python -m mimic.train` is `mimic train`, for launchers: `accelerate launch -m mimic.train --config …`."""

import sys

from mimic.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
