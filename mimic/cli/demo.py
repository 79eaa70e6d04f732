"""`mimic demo`: run the shipped example."""

from __future__ import annotations

import argparse

from mimic.cli.infer import run_cases
from mimic.cli.options import Subparsers, add_run_options


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        parents=[shared],
        help="make the bundled character dance (minutes, no download)",
        description="Run the shipped demo.yaml: the bundled model, picture and driving clip.",
        epilog="With your own clip: mimic demo test_case.0.ref_video_path=my_dance.mp4",
    )
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.config import load_inference_config, shipped_config

    return run_cases(load_inference_config(shipped_config("demo.yaml"), options.overrides), options)
