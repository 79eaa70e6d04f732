"""`mimic demo`: run the shipped example."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mimic.cli.infer import run_cases
from mimic.cli.options import Subparsers, add_run_options

log = logging.getLogger("mimic")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        parents=[shared],
        help="make the bundled character dance (minutes, no download)",
        description="Run the shipped demo.yaml: the bundled model, picture and driving clip. Also write "
        "demo.png, a sheet with moments of the video.",
        epilog="With your own clip: mimic demo test_case.0.ref_video_path=my_dance.mp4",
    )
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.config import load_inference_config
    from mimic.video.formats import PICTURE_FOLDER

    config = load_inference_config("bundled:demo", options.overrides)
    folder = Path(config.output_dir if options.output_dir is None else options.output_dir).expanduser()
    shown = [
        (name, case) for name, case in zip(config.case_names(), config.test_case)
        if case.side_by_side and case.format != PICTURE_FOLDER
    ]  # fmt: skip
    if any((folder / f"{name}.png").exists() for name, _ in shown):
        from mimic.generation.sheet import check_sheet

        for name, _ in shown:
            check_sheet(folder / f"{name}.png")
    code = run_cases(config, options)
    if code == 0 and shown and not options.dry_run:
        from mimic.generation.checks import result_files
        from mimic.generation.sheet import write_sheet

        for name, case in shown:
            files, sheet = result_files(folder, name, case), folder / f"{name}.png"
            assert files.side_by_side is not None
            former = write_sheet(files.side_by_side, files.video, sheet, overwrite=options.overwrite)
            if former is not None:
                log.info("the former contact sheet is kept as %s", former.name)
            print(sheet)
    return code
