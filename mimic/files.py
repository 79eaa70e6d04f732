"""Where files lie, and how they appear: under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder beside ``path`` to fill; it gets the final name if the body succeeds.

    All that is in it is flushed to disk before it is renamed, and so is the rename. What had the final name
    before is removed then. When the body raises, the folder beside is removed and nothing else has changed.

    Raises:
        OSError: a folder cannot be made, flushed or renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        yield beside
        for place, _, files in os.walk(beside):
            for name in files:
                _flush(os.path.join(place, name))
            _flush(place)
        if path.exists():
            os.replace(path, replaced)
        os.replace(beside, path)
        _flush(path.parent)
    finally:
        for folder in (beside, replaced):
            shutil.rmtree(folder, ignore_errors=True)


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside the files and folders that they were writing in ``folder``."""
    for left in Path(folder).glob(".*.partial*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _flush(path: str | os.PathLike[str]) -> None:
    """Have the system put a file's content, or a folder's list of names, on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
