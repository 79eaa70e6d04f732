"""How files appear: under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; take it over under the final name if the body succeeds.

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
