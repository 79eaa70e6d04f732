"""Where files lie, and how they appear: under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
ASSETS = PACKAGE / "assets"


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it gets the final name if the body succeeds.

    The file beside has the same suffix, is flushed to disk before it is renamed, and is removed when the
    body raises, so that no partial file is ever seen under the final name.

    Raises:
        OSError: the folder cannot be made, or the file cannot be flushed or renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write ``content`` as indented UTF-8 JSON, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def local_path(text: str | os.PathLike[str]) -> Path:
    """A path as users write it: ``bundled:demo/driving.mp4`` lies in this package, ``~`` is their home."""
    name = os.fspath(text)
    if name.startswith("bundled:"):
        return ASSETS / name.removeprefix("bundled:")
    return Path(name).expanduser()
