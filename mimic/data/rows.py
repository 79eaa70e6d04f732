"""Validate rows of a prepared folder's index, and convert their paths to paths of this system."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from pose.text import one_line, shown

_LARGEST = 2**31 - 1


def fault(row: Mapping[str, Any], *, without: Collection[str] = ()) -> str | None:
    """Describe what is wrong with a row, as part of a sentence; None if the row is valid.

    Args:
        row: the row.
        without: fields that are not checked.
    """
    wanted = [name for name in _FIELDS if name not in without]
    missing = sorted(name for name in wanted if name not in row)
    if missing:
        name = row.get("clip", "without a name")
        title = one_line(name, 60) if isinstance(name, str) else shown(name)
        return f"the clip {title} lacks {', '.join(missing)}"
    for name in wanted:
        expected, is_valid = _FIELDS[name]
        if not is_valid(row[name]):
            return f"{name} is {shown(row[name])}; expected {expected}"
    return None


def is_text(value: object) -> bool:
    """Return whether a value is text that can be a path on this system."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        names = os.fsencode(value).replace(b"\\", b"/").split(b"/")
    except UnicodeEncodeError:
        return False
    return max(map(len, names)) <= 255 and len(value) <= 4000


def path_here(text: str, base: Path, *, may_be_absolute: bool) -> str:
    """Convert a path of an index, with ``/`` between folders, to a path of this system.

    Args:
        text: the path.
        base: the folder that relative paths start from.
        may_be_absolute: whether absolute paths are accepted.

    Raises:
        ValueError: the path leads out of the folder, or belongs to another system.
    """
    if ".." in PureWindowsPath(text).parts:
        raise ValueError(f"{shown(text)} leads out of its folder; expected a path without ..")
    if not may_be_absolute and PurePath(text).is_absolute():
        raise ValueError(f"{shown(text)} is absolute; expected a path relative to {base}")
    if os.name == "nt":
        is_foreign = text.startswith("/")
        text = text.replace("\\", "/")
        is_outside = bool(PureWindowsPath(text).drive) and not may_be_absolute
    else:
        is_foreign = is_outside = False
        # Both are allowed in file names on this system, so an existing path is accepted.
        if ("\\" in text or PureWindowsPath(text).drive) and not (base / text).exists():
            slashes = text.replace("\\", "/")
            is_foreign = bool(PureWindowsPath(text).drive) or not (base / slashes).exists()
            text = slashes
    if is_foreign or is_outside:
        raise ValueError(
            f"{shown(text)} is a path of another system or place; expected one relative to {base}, with "
            "/ between folders"
        )
    return text


def _is_whole(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= _LARGEST


def _is_number(lowest: float, highest: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and lowest <= value <= highest


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "clip": ("a name", is_text),
    "video": ("a path relative to the folder of videos, with / between folders", is_text),
    "first_frame": ("a whole number from 0", _is_whole(0)),
    "num_frames": ("a whole number from 1", _is_whole(1)),
    "fps": ("a number above 0", _is_number(sys.float_info.min, _LARGEST)),
    "width": ("a whole number from 1", _is_whole(1)),
    "height": ("a whole number from 1", _is_whole(1)),
    "poses": ("a path relative to the prepared folder, with / between folders", is_text),
    "person_coverage": ("a number from 0 to 1", _is_number(0, 1)),
    # Scores of estimators are nominally in [0, 1] and may exceed that range.
    "body_confidence": ("a number", _is_number(-_LARGEST, _LARGEST)),
    "hand_confidence": ("a number", _is_number(-_LARGEST, _LARGEST)),
    "split": ("train or val", lambda value: value in ("train", "val")),
}
