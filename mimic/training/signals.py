"""How is a training asked to stop? SIGTERM and SIGINT are noted, and heeded after the step at hand."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While its ``with`` block runs, the first SIGTERM or SIGINT is only noted; a second SIGINT interrupts.

    Outside the main thread, where Python handles no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        """Of the signal that came; None while none has."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
