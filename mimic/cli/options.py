"""What several commands share: their error, options of runs, suffixes of pictures."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class UsageError(ValueError):
    """Options with invalid values, or options that exclude each other."""


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run the cases of a YAML."""
    parser.add_argument(
        "--output-dir", "--output_dir", type=Path, metavar="DIR", help="where results go (default: outputs)"
    )
    add_overwrite(parser)
    add_dry_run(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that replace the YAML's: device=cpu, seed=3 (all cases), test_case.0.seed=3 (one)",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make all anew and replace former results (default: unchanged ones are kept, others set aside)",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add `--dry-run`."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, time two denoising steps of one window, print frames, windows, steps, memory "
        "and time, and write nothing",
    )


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose who does the work."""
    parser.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="local (default), or ray: the workers of the Ray cluster of RAY_ADDRESS, or of one started here",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes (default: one per core; with ray, one per GPU or core of the cluster)",
    )


def check_place(option: str, path: Path | None) -> None:
    """Raise `UsageError` if a file cannot be written there on every system, before anything is computed."""
    from mimic.files import without_empty_folders
    from mimic.names import fault_of, made_safe

    if path is None:
        return
    fault = fault_of(path.stem)
    if fault is not None:
        better = path.with_name(made_safe(path.stem) + path.suffix)
        raise UsageError(f"{option} is {path}; {fault}. Choose another name, such as {better}")
    try:
        with without_empty_folders(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise UsageError(f"{option} is {path}, which cannot be written: {error.strerror or error}") from error


def check_workers(options: argparse.Namespace) -> None:
    """Raise `UsageError` for an impossible number of workers."""
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers is {options.workers}; expected 1 or more")


def add_estimator_options(parser: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """Add the options that choose a pose estimator."""
    parser.add_argument(
        "--estimator",
        default=default,
        choices=("auto", "dwpose", "blazepose"),
        help="pose estimator; auto (default) is DWPose if its files are there, else the bundled blazepose",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="folder of the DWPose files (default: where `mimic download dwpose` writes them)",
    )
