"""Work that runs in a thread of its own while the page shows how far it is, and that can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mimic.progress import Listener, progress_line
from mimic.ui.errors import CancelledError

ResultT = TypeVar("ResultT")
UNITS = {"poses": "frame", "denoising": "window", "decoding": "frame"}
LOOK_EVERY_S = 0.25
PREVIEW_EVERY_S = 3.0
"""Seconds for which a preview stays at least; a browser needs some of them to load it."""


class Job(Generic[ResultT]):
    """Runs ``work(progress, preview)`` in a thread.

    Args:
        work: called with a listener of progress, which raises `CancelledError` after `stop`, and a function
            that takes each preview.
    """

    def __init__(self, work: Callable[[Listener, Callable[[bytes], None]], ResultT]) -> None:
        self.words = "Waiting for the device, or for the model to be loaded."
        self.preview: bytes | None = None
        self.is_page_gone = False
        """Whether the page that started it was closed; then any page may stop it."""
        self._stop, self._ended = threading.Event(), threading.Event()
        self._result: ResultT | None = None
        self._error: BaseException | None = None
        self._stage, self._since = "", 0.0
        self._thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop it after its current frame or window."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end; returns whether it has ended."""
        return self._ended.wait(seconds)

    def changes(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield its state in words and a new preview (None if there is none) whenever one of them changes."""
        words, preview, since = "", None, float("-inf")
        while not self._ended.wait(LOOK_EVERY_S):
            fresh = None
            if self.preview is not preview and time.monotonic() - since >= PREVIEW_EVERY_S:
                preview = fresh = self.preview
                since = time.monotonic()
            if fresh is not None or self.words != words:
                words = self.words
                yield words, fresh

    def result(self) -> ResultT:
        """Wait for its end and return its result, or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _run(self, work: Callable[[Listener, Callable[[bytes], None]], ResultT]) -> None:
        try:
            self._result = work(self._show, self._see)
        except BaseException as error:  # raised again by `result`
            self._error = error
        finally:
            self._ended.set()

    def _show(self, stage: str, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise CancelledError
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._since = stage, now
        self.words = progress_line(stage, UNITS.get(stage, "part"), done, total, now - self._since)

    def _see(self, preview: bytes) -> None:
        self.preview = preview
