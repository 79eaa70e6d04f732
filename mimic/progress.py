"""Show how far work is: bars on terminals and in notebooks, lines elsewhere, JSON for machines."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

Progress = Callable[[int, int | None], None]
"""Called with (done, total) as work proceeds; a total of None is unknown."""

FIRST_LINE_S, MOST_S_BETWEEN_LINES = 5.0, 60.0
"""Seconds between lines: at first, and in work of an hour and more."""
S_BETWEEN_EVENTS = 0.5

_json_stream: TextIO | None = None


def log_as_json(stream: TextIO | None) -> None:
    """Write progress and `emit` to `stream` from now on, one JSON object per line; None ends it."""
    global _json_stream  # noqa: PLW0603 - one process has one command and one log
    _json_stream = stream


def is_log_json() -> bool:
    """Whether `log_as_json` is on."""
    return _json_stream is not None


def emit(event: str, **fields: Any) -> None:
    """Write an event as a JSON line; does nothing unless `log_as_json` is on."""
    if _json_stream is not None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, default=str)
        _json_stream.write(line + "\n")
        _json_stream.flush()


Listener = Callable[[str, int, "int | None"], None]
"""Called with (stage, done, total); what it raises ends the work."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` in place of all bars, in this thread and within this context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def progress_bar(description: str, unit: str, *, is_shown: bool) -> Iterator[Progress]:
    """Show progress and the time left; yields a `Progress` to call.

    A bar on a terminal and in a notebook, which appears with the first call; elsewhere (a file, a batch
    system's log) a line every few seconds on stderr; JSON events after `log_as_json`.
    """
    listener = _listener.get()
    if listener is not None:
        yield functools.partial(listener, description)
    elif not is_shown:
        yield lambda done, total: None
    elif is_log_json():
        yield _Events(description, unit)
    elif has_bar():
        with contextlib.ExitStack() as open_bars:
            yield _bar(description, unit, open_bars)
    else:
        yield ProgressLines(description, unit)


class ProgressLines:
    """Writes a line on stderr every few seconds, and one at the end; the longer the work, the fewer."""

    def __init__(self, description: str, unit: str) -> None:
        self._description, self._unit = description, unit
        self._start = self._last = time.monotonic()
        self._is_done = False

    def __call__(self, done: int, total: int | None) -> None:
        if total == 1:
            return  # there is nothing between its begin and its end
        now = time.monotonic()
        pause = min(max(FIRST_LINE_S, (now - self._start) / 60), MOST_S_BETWEEN_LINES)
        is_end = total is not None and done >= total
        if self._is_done or (not is_end and now - self._last < pause):
            return
        self._last, self._is_done = now, is_end
        text = progress_line(self._description, self._unit, done, total, now - self._start)
        print(text, file=sys.stderr, flush=True)


def progress_line(stage: str, unit: str, done: int, total: int | None, seconds: float) -> str:
    """One line with a stage's progress, speed and remaining time."""
    text = f"{stage}: {done}{'' if total is None else f' of {total}'} {unit}s"
    rate = done / seconds if seconds > 0 else 0.0
    if rate >= 0.1:
        text += f", {rate:.1f} {unit}s/s"
    elif rate > 0:
        text += f", {1 / rate:.0f} s/{unit}"
    if rate > 0 and total is not None and done < total:
        text += f", {clock((total - done) / rate)} left"
    return text


def clock(seconds: float) -> str:
    """Format a duration as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def counted(number: int, noun: str) -> str:
    """Format a number of things: `1 frame`, `2 frames`, `2 passes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def has_bar() -> bool:
    """Whether progress is a bar here: on a terminal or in a notebook, unless it is logged as JSON."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()  # a program without a console has none
    return not is_log_json() and (is_terminal or is_notebook())


def is_notebook() -> bool:
    """Whether this is a cell of a notebook (Jupyter, Colab)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _bar(description: str, unit: str, open_bars: contextlib.ExitStack) -> Progress:
    from tqdm.auto import tqdm

    bars: list[Any] = []
    start = time.time()

    def show(done: int, total: int | None) -> None:
        if not bars:
            bars.append(open_bars.enter_context(tqdm(total=total, desc=description, unit=f" {unit}s")))
            bars[0].start_t = start
        bars[0].update(done - bars[0].n)

    return show


class _Events:
    """Emits `progress` events."""

    def __init__(self, stage: str, unit: str) -> None:
        self._stage, self._unit = stage, unit
        self._start, self._last = time.monotonic(), float("-inf")

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done != total and now - self._last < S_BETWEEN_EVENTS:
            return
        self._last = now
        seconds = now - self._start
        left = None if total is None or done == 0 else seconds / done * (total - done)
        emit(
            "progress",
            stage=self._stage,
            unit=self._unit,
            done=done,
            total=total,
            seconds=round(seconds, 3),
            seconds_left=None if left is None else round(left, 3),
        )
