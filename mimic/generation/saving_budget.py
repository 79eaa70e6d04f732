"""How much time saving may take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

SHARE_OF_TIME = 0.015
"""Share of a run's time that saving may take."""


class SavingBudget:
    """Limits the time spent on saving to a share of the time since the start.

    Args:
        share: the share.
        clock: returns the time in seconds.
    """

    def __init__(self, share: float = SHARE_OF_TIME, clock: Callable[[], float] = time.perf_counter) -> None:
        self.share = share
        self._clock = clock
        self.spent_s = 0.0
        self._last_s = 0.0
        self._start = clock()

    def allows_another(self) -> bool:
        """Whether saving once more, taking as long as the last time, stays within the share."""
        return self.spent_s + self._last_s <= self.share * (self._clock() - self._start)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Count the time of the body."""
        start = self._clock()
        try:
            yield
        finally:
            self._last_s = self._clock() - start
            self.spent_s += self._last_s
