"""`mimic export`: make a model folder of a training's checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from mimic.cli.options import Subparsers, add_overwrite


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        parents=[shared],
        help="make a model folder of a training's checkpoint",
        description="Make a model folder of any checkpoint of a training, to use as --model or "
        "base_model_path. The model that was trained further has to be where it was.",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a folder runs/…/checkpoint-<step>"
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="the model folder to write")
    add_overwrite(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    import logging

    from mimic.files import local_path
    from mimic.training.from_checkpoint import export_checkpoint

    folder = local_path(options.folder)
    print(export_checkpoint(local_path(options.checkpoint), folder, overwrite=options.overwrite))
    logging.getLogger("mimic").info("use it: mimic animate PICTURE CLIP --model %s", folder)
    return 0
