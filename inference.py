"""Config to video files: `python inference.py --config FILE [--output-dir DIR] [key=value …]`."""

import sys

from mimic.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not any(
        argument.startswith(("--config", "--inference_config", "-h", "--help")) for argument in arguments
    ):
        arguments = ["--inference_config", "configs/test.yaml", *arguments]  # the released script's default
    sys.exit(main(["infer", *arguments]))
