"""`mimic prepare`: a folder of videos to clips with poses, a table and a contact sheet."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Callable

from mimic.cli.commands import UsageError
from mimic.config.loading import build, split_override
from mimic.data.index import INDEX, REJECTED
from mimic.data.prepare import PrepareSettings
from mimic.data.prepare import prepare as prepare_folder
from mimic.progress import progress_bar

log = logging.getLogger("mimic")

SECONDS_BETWEEN_LINES = 15.0


def prepare(options: argparse.Namespace) -> int:
    """Prepare as the options say; what has no option of its own comes as ``key=value``."""
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers is {options.workers}; expected 1 or more")
    settings = _settings(options)
    with contextlib.ExitStack() as open_bars:
        prepared = prepare_folder(
            options.videos,
            options.out,
            settings,
            num_workers=options.workers,
            device=options.device,
            progress=Stages(open_bars, is_shown=not options.quiet),
            say=log.info,
        )
    if prepared is None:
        return 0
    if not options.quiet:
        print(prepared.table())
    print(prepared.folder / REJECTED)
    if not prepared.clips:
        log.error(
            "no clip can serve; %s tells why. Other settings want another --out", prepared.folder / REJECTED
        )
        return 1
    print(prepared.contact_sheet)
    print(prepared.folder / INDEX)
    return 0


class Stages:
    """Shows each stage as a bar on a terminal, and elsewhere as a line from time to time."""

    def __init__(self, open_bars: contextlib.ExitStack, *, is_shown: bool) -> None:
        self._open_bars = open_bars
        self._is_shown = is_shown
        self._bars: dict[str, Callable[[int, int | None], None]] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None:
        if not self._is_shown or (stage == "all ranks" and stage not in self._bars and done == total):
            return
        if sys.stderr.isatty():
            self._bar(stage, unit)(done, total)
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        is_due = now - self._said.setdefault(stage, started) >= SECONDS_BETWEEN_LINES
        if is_due or (done == total and self._said[stage] != float("inf")):
            self._said[stage] = float("inf") if done == total else now
            log.info(line(stage, unit, done, total, now - started))

    def _bar(self, stage: str, unit: str) -> Callable[[int, int | None], None]:
        if stage not in self._bars:
            self._open_bars.close()  # the bar of the stage before
            bar = progress_bar(stage, unit, is_shown=True)
            self._bars[stage] = self._open_bars.enter_context(bar)
        return self._bars[stage]


def line(stage: str, unit: str, done: int, total: int, seconds: float) -> str:
    """How far a stage is, how fast it goes and how long it takes yet, in words."""
    rate = done / seconds if seconds > 0 else 0.0
    text = f"{stage}: {done} of {total} {unit}s"
    if rate > 0:
        text += f", {rate:.1f} {unit}s/s"
        if done < total:
            left = round((total - done) / rate)
            text += f", {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
    return text


def _settings(options: argparse.Namespace) -> PrepareSettings:
    content = dict(split_override(override) for override in options.overrides)
    for name in ("estimator", "weights", "person", "seed"):
        if getattr(options, name) is not None:
            content[name] = getattr(options, name)
    if "person" in content:
        content["person"] = str(content["person"])
    return build(PrepareSettings, content, source="settings of mimic prepare")
