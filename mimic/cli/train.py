"""`mimic train`, also as `python -m mimic.train` and train.py: train a model as a YAML says."""

from __future__ import annotations

import argparse
from pathlib import Path

from mimic.cli.options import Subparsers


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        parents=[shared],
        help="train a model as a YAML says",
        description="Train a model, or fine-tune one, with the settings of a YAML. Rerun the command to "
        "resume.",
        epilog="`mimic configs --keys train` lists all settings. On several GPUs: accelerate launch "
        "--config_file ddp.yaml -m mimic.train … (`mimic configs accelerate/ddp` copies ddp.yaml)",
    )
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="FILE",
        help="a YAML, or bundled:train/NAME (see `mimic configs`)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="report parameters, memory and batch, check everything, and stop before the first step",
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="settings that replace the YAML's"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.training.main import train

    train(options.config, options.overrides, is_dry_run=options.dry_run, is_quiet=options.quiet)
    return 0
