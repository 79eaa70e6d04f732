"""What is wrong with a value, in words for people who do not write Python."""

from __future__ import annotations

import re

_PLAINER = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid (?:tuple|list)": "a list",
    "a valid string": "text",
    "a valid dictionary": "keys with values",
    r"greater than or equal to ([\w.-]+)": r"\1 or more",
    r"less than or equal to ([\w.-]+)": r"\1 or less",
}
"""Pydantic's words, and ours."""


def in_plain_words(message: str) -> str:
    """Return a message of pydantic without its prefix and its types' names."""
    message = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    for theirs, ours in _PLAINER.items():
        message = re.sub(theirs, ours, message)
    return message
