"""`mimic prepare`: a folder of videos to clips with poses, a table and a contact sheet."""

from __future__ import annotations

import argparse
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.options import Subparsers, add_estimator_options, add_runner, check_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mimic.data.index import PreparedClip
    from mimic.data.prepare import PrepareSettings
    from mimic.progress import Progress

log = logging.getLogger("mimic")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "prepare",
        parents=[shared],
        help="make clips with poses of a folder of videos, to train on",
        description="Divide videos at their cuts, find the poses of the one person in each, and list which "
        "clips can be used and which cannot. Rerun the command to resume; under torchrun or accelerate "
        "launch the processes share the videos. Afterwards look at contact.png.",
        epilog="Settings as key=value: min_frames=16 min_size=256 min_coverage=0.8 max_seconds=60 "
        "max_gap_seconds=0.5 other_size=0.4 max_others=0.1 val_share=0.1 (the defaults); "
        "`mimic configs --keys prepare` says what they mean.",
    )
    parser.add_argument("--videos", required=True, type=Path, metavar="DIR", help="folder of the videos")
    parser.add_argument("--out", required=True, type=Path, metavar="DATA", help="folder of the result")
    add_estimator_options(parser, default=None)
    parser.add_argument(
        "--person",
        help="one (default: clips with several people are dropped), largest, center, or a number from 0, "
        "counted from the left",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:<index>")
    add_runner(parser)
    parser.add_argument("--seed", type=int, help="seed of the split and the contact sheet (default: 0)")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="settings, as below")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.data.index import INDEX, REJECTED
    from mimic.data.prepare import prepare

    check_workers(options)
    settings = _settings(options)
    with contextlib.ExitStack() as open_bars:
        prepared = prepare(
            options.videos,
            options.out,
            settings,
            num_workers=options.workers,
            device=options.device,
            progress=Stages(open_bars, is_shown=not options.quiet),
            say=log.info,
            runner=options.runner,
        )
    if prepared is None:
        return 0
    if not options.quiet:
        print(prepared.table())
    print(prepared.folder / REJECTED)
    if not prepared.clips:
        log.error(
            "no clip can be used; %s gives the reasons. Other settings need another --out",
            prepared.folder / REJECTED,
        )
        return 1
    log.info(_hands(prepared.clips))
    print(prepared.contact_sheet)
    print(prepared.folder / INDEX)
    return 0


def _hands(clips: Sequence[PreparedClip]) -> str:
    """Describe in how many frames training will mask hands with its default threshold."""
    from mimic.data.hands import MOST_CLIPS, all_thresholds, describe, hand_shares
    from mimic.data.settings import DataSettings

    threshold = DataSettings.model_fields["hand_threshold"].default
    poses = (clip.load_poses() for clip in clips[:: max(1, len(clips) // MOST_CLIPS)])
    return describe(hand_shares(poses, all_thresholds(threshold)), threshold)


class Stages:
    """Shows each stage in its turn, as `mimic.progress.progress_bar` does."""

    def __init__(self, open_bars: contextlib.ExitStack, *, is_shown: bool) -> None:
        self._open_bars = open_bars
        self._is_shown = is_shown
        self._bars: dict[str, Progress] = {}

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None:
        from mimic.progress import progress_bar

        if stage not in self._bars:
            if stage == "all ranks" and done == total:
                return
            self._open_bars.close()  # the previous stage's bar
            bar = progress_bar(stage, unit, is_shown=self._is_shown)
            self._bars[stage] = self._open_bars.enter_context(bar)
        self._bars[stage](done, total)


def _settings(options: argparse.Namespace) -> PrepareSettings:
    from mimic.config.loading import build, split_override
    from mimic.data.prepare import PrepareSettings

    content = dict(split_override(override, PrepareSettings) for override in options.overrides)
    for name in ("estimator", "weights", "person", "seed"):
        if getattr(options, name) is not None:
            content[name] = getattr(options, name)
    if "person" in content:
        content["person"] = str(content["person"])
    return build(PrepareSettings, content, source="settings of mimic prepare")
