"""How messages show what files hold: short, on one line, without letters that steer a terminal."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters of a file's text, or of a library's error, in a message."""

# Control characters, line separators, marks that turn the direction of text, and half characters.
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ODD_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: object, longest: int = LONGEST) -> str:
    """Show a name that a file gives, or the message of a library's error, on one line.

    Args:
        text: a text, or an error, whose class is named if it has no message.
        longest: characters of the result; what is longer is cut, with ``...`` at its end.
    """
    try:
        words = str(text)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists of thousands of levels
        return "a huge value"
    words = words[: 8 * longest] if len(words) > 8 * longest else words
    words = _ODD.sub(_escaped, " ".join(words.split()))
    if not words and isinstance(text, BaseException):
        words = type(text).__name__
    return _cut(words, longest)


def shown(value: object, longest: int = 60) -> str:
    """Show a value as Python writes it, shortened to `longest` characters."""
    try:
        return _cut(_ODD.sub(_escaped, repr(value)), longest)
    except (ValueError, RecursionError):
        return "a huge value"


def printable(text: str) -> str:
    """Return a text of lines with `\\x1b` and the like in place of what would steer a terminal."""
    return _ODD_IN_LINES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
