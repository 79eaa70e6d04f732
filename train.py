"""Train a model: `python train.py --config configs/train/debug.yaml [key=value ...]`."""

import sys

from mimic.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], program="train.py"))
