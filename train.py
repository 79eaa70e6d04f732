"""Train a model: `python train.py --config configs/train/mini.yaml [key=value ...]`."""

import sys

from mimic.training.main import main

if __name__ == "__main__":
    sys.exit(main())
