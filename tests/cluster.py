"""A worker of a Ray cluster that dies while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil


class OneKill:
    """Kills one worker of the cluster as soon as it is at work and `is_time` says so."""

    def __init__(self, is_time: Callable[[], bool]) -> None:
        self.killed: int | None = None
        self._is_time = is_time
        self._thread = threading.Thread(target=self._kill)

    def _kill(self) -> None:
        deadline = time.monotonic() + 250
        while self.killed is None and time.monotonic() < deadline:
            for process in psutil.process_iter(["cmdline"]):
                if (process.info["cmdline"] or [""])[0].startswith("ray::_Actor.do") and self._is_time():
                    process.kill()
                    self.killed = process.pid
                    break
            time.sleep(0.02)

    def __enter__(self) -> OneKill:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
