"""JSON files of poses: read and checked, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pose.files import replace
from pose.text import one_line, shown
from pose.types import MAX_SIDE, PoseError

_LARGEST = 1e300  # whole numbers in JSON may be larger than any float

OWN_KEY = "mimic"
"""Of what other programs' layouts have no place for; they ignore it."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        PoseError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise PoseError(f"{path} cannot be read as JSON: {one_line(error)}") from error


def own_facts(noted: Any) -> tuple[float, dict[str, Any]]:
    """The frame rate and the metadata that our own files note; 25 and none in files of other programs."""
    noted = noted if isinstance(noted, dict) else {}
    fps, metadata = noted.get("fps"), noted.get("metadata")
    is_rate = isinstance(fps, (int, float)) and not isinstance(fps, bool) and abs(fps) < _LARGEST
    return float(fps) if is_rate else 25.0, dict(metadata) if isinstance(metadata, dict) else {}


def write_json(content: Any, path: Path) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(content, allow_nan=False).encode())


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is written completely."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(beside, path)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        # Errors of writing, such as a full disk, do not say to what file.
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def triples(value: Any, counts: tuple[int, ...], where: str) -> NDArray[np.float64] | None:
    """A flat list x, y, score, x, y, … as ``N x 3``; None where there is none.

    Args:
        counts: the numbers of points that the list may have.
        where: what the list is, for the message.

    Raises:
        PoseError: it is no list of numbers, of another length, or a number is not finite.
    """
    if value is None or (isinstance(value, list) and not value):
        return None
    is_numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if not is_numbers or len(value) not in [3 * count for count in counts]:
        found = f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
        wanted = " or ".join(str(3 * count) for count in counts)
        raise PoseError(f"{where} is {found}; expected {wanted} numbers (x, y, score of each point)")
    if not all(abs(number) < _LARGEST for number in value):
        raise PoseError(f"{where} holds numbers that are not finite; expected x, y, score of each point")
    return np.array(value, dtype=np.float64).reshape(-1, 3)


def positive_int(value: Any, where: str) -> int:
    """A size in pixels.

    Raises:
        PoseError: it is no whole number of at least 1.
    """
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    if not is_whole or not 1 <= value <= MAX_SIDE:
        found = "too large" if is_whole and value > MAX_SIDE else shown(value)
        raise PoseError(f"{where} is {found}; expected a size in pixels, 1 to {MAX_SIDE}")
    return int(value)
