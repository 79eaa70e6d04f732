"""`--log-json`: everything that a command says, as one JSON object per line on stdout.

Events, each with `time` (seconds since 1970): `message` (level, text), `progress` (stage, unit, done, total,
seconds, seconds_left), `result` (path, report, num_frames, …), `estimate` (of --dry-run), `output` (a line
that the command prints without the option), `error` (text, exit_code), `end` (exit_code).
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def json_lines() -> Iterator[None]:
    """Inside the context, write all that is printed on stdout, and progress, as JSON lines."""
    from mimic.progress import log_as_json

    stream = sys.stdout
    lines = _OutputEvents()
    log_as_json(stream)
    try:
        with contextlib.redirect_stdout(lines):
            yield
            lines.close()
    finally:
        log_as_json(None)


class JsonHandler(logging.Handler):
    """Emits log records as `message` events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Emit one record."""
        from mimic.progress import emit

        emit("message", level=record.levelname.lower(), text=record.getMessage())


class _OutputEvents(io.TextIOBase):
    """Turns printed lines into `output` events."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> int:
        from mimic.progress import emit

        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            emit("output", text=line)
        return len(text)

    def close(self) -> None:
        """Emit an unfinished last line."""
        if self._rest:
            self.write("\n")
