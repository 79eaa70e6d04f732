"""`mimic download`: fetch released weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from mimic.cli.options import Subparsers

NAMES = ("mimicmotion", "dwpose", "animate-anyone", "magic-animate", "metrics")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "download",
        parents=[shared],
        help="fetch released weights",
        description="Show the size and licence of released weights, then fetch them. Rerun the command to "
        "resume.",
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="default: models/, models/metrics/ for metrics, the cache for dwpose",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="accept the licences without being asked")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        DownloadError: something cannot be downloaded; what is there already is kept.
    """
    from mimic.weights.errors import DownloadError, OfflineError, SourceError

    try:
        return _download(options)
    except OfflineError as error:
        raise DownloadError(
            "the Hugging Face hub cannot be reached, so nothing can be downloaded. Rerun the command when "
            "this machine is online and HF_HUB_OFFLINE is not set"
        ) from error
    except SourceError as error:
        raise DownloadError(str(error)) from error


def _download(options: argparse.Namespace) -> int:
    from mimic.weights.download import RELEASES, describe, fetch
    from pose.dwpose import weights_folder

    release = RELEASES[options.name]
    folder = options.to or (weights_folder() if options.name == "dwpose" else Path(release.folder))
    print(describe(release, folder), flush=True)
    if release.needs_consent and not options.yes and not _agrees():
        return 2
    for path in fetch(release, folder, say=lambda line: print(line, flush=True)):
        print(path)
    return 0


def _agrees() -> bool:
    try:
        answer = input("Do you accept these licences? [y/N] ")
    except EOFError:
        answer = ""
        print()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was downloaded. `--yes` accepts the licences.")
    return False
