"""Note a request to stop a training (SIGTERM, SIGINT, Ctrl+Break); it stops after the current step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

INTERRUPTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name))
"""Signals of Ctrl+C and, on Windows, Ctrl+Break."""


class StopRequest:
    """Note the first signal while the ``with`` block runs; a second Ctrl+C or Ctrl+Break interrupts.

    Outside the main thread, where Python handles no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        """Of the signal that came; None while none has."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, *INTERRUPTS):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number in INTERRUPTS:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
