"""Which videos lie in a folder, and how each is named in the notes of its work."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.data.index import DataError

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")


@dataclass(frozen=True)
class Source:
    """One video of the folder."""

    video: str
    """Path relative to the folder, with ``/`` between folders."""
    num_bytes: int
    changed_ns: int
    """When the file was last changed; with its size it tells whether notes about it still hold."""

    @property
    def key(self) -> str:
        """16 hex digits for this path, for names of files."""
        return hashlib.blake2b(os.fsencode(self.video), digest_size=8).hexdigest()

    def clip_name(self, first_frame: int) -> str:
        """Name of the clip that begins at this frame: readable, and unlike any other's."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.video.rpartition(".")[0]).strip("-")[-40:].strip("-")
        return f"{readable or 'clip'}-{self.key[:8]}-{first_frame:06d}"


def walk(folder: Path) -> list[Source]:
    """All videos under a folder, by name; what begins with a dot is left out, links are followed.

    Raises:
        DataError: there is no such folder, it may not be read, or it holds no video.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}; --videos takes the folder that holds the videos")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --videos takes the folder that holds the videos")
    found = sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix())
    sources = []
    for path in found:
        facts = path.stat()
        sources.append(Source(path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns))
    if not sources:
        raise DataError(f"{folder} holds no video; expected files that end in {', '.join(SUFFIXES)}")
    return sources


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} may not be read: {error.strerror}") from error

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(place, name)
            # A link that leads nowhere is no video.
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path
