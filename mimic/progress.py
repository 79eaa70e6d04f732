"""Progress bars on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

Progress = Callable[[int, int | None], None]
"""Called with (done, total) as work proceeds; a total of None is unknown."""


@contextlib.contextmanager
def progress_bar(description: str, unit: str, *, is_shown: bool) -> Iterator[Progress]:
    """Show a bar with the time left on a terminal, nothing elsewhere; yields a `Progress` to call.

    The bar appears with the first call.
    """
    with contextlib.ExitStack() as open_bars:
        bars: list[tqdm[Any]] = []
        style = bar_style(description, unit, is_shown=is_shown)
        start = time.time()

        def show(done: int, total: int | None) -> None:
            if not bars:
                bars.append(open_bars.enter_context(tqdm(total=total, **style)))
                bars[0].start_t = start
            bars[0].update(done - bars[0].n)

        yield show


def bar_style(description: str, unit: str, *, is_shown: bool) -> dict[str, Any]:
    """Arguments for `tqdm` that all bars share."""
    is_terminal = sys.stderr.isatty()
    return {
        "desc": description,
        "unit": f" {unit}s",
        "disable": not (is_shown and is_terminal),
        "leave": True,
    }
