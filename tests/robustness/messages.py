"""What is wrong with a sentence that is said of a damaged file."""

from __future__ import annotations

import logging
import re

LONGEST, LONGEST_LINE = 4000, 2600
ODD = "\x1b[2J\x07\u202e" + "x" * 10_000
"""A name or value that steers a terminal, turns the direction of letters, and is long."""
# Letters that steer a terminal, end a line or turn its direction, and halves of letters.
_ODD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def fault_of(text: str) -> str | None:
    """Why a text is no clear message; None if it is one."""
    if not text.strip():
        return "it is empty"
    if len(text) > LONGEST or max(map(len, text.splitlines())) > LONGEST_LINE:
        return f"it has {len(text)} letters"
    if text.startswith("[Errno"):
        return "it is the system's"
    odd = _ODD.search(text)
    return None if odd is None else f"it shows {odd[0]!a}"


class Heard(logging.Handler):
    """Collects what is wrong with the messages that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())

    def say(self, text: str) -> None:
        """Take a message."""
        fault = fault_of(text)
        if fault is not None:
            self.faults.append(f"a message is not clear, {fault}: {text[:500]!r}")


HEARD = Heard()
"""Of all samples, emptied before each."""
