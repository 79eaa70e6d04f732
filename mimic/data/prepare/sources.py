"""Which videos lie in a folder, and how each is named in the notes of its work."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.data.index import DataError

POSES = "poses"
"""Folder of the poses in a prepared folder."""

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

    @property
    def clip_prefix(self) -> str:
        """What the names of all clips of this video begin with."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.video.rpartition(".")[0]).strip("-")[-40:].strip("-")
        return f"{readable or 'clip'}-{self.key[:8]}"

    def clip_name(self, first_frame: int) -> str:
        """Name of the clip that begins at this frame: readable, and unlike any other's."""
        return f"{self.clip_prefix}-{first_frame:06d}"


def poses_file(clip: str) -> str:
    """Where the poses of a clip lie in the prepared folder, relative to it."""
    return f"{POSES}/{clip}.npz"


def walk(folder: Path) -> list[Source]:
    """All videos under a folder, by name.

    What begins with a dot is left out and links are followed. Pipes, devices and folders without any video
    that are named like a video are listed too, so that they are rejected with their reason.

    Raises:
        DataError: there is no such folder, it may not be read, or it holds no video.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}; --videos takes the folder that holds the videos")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --videos takes the folder that holds the videos")
    sources, has_video = [], False
    for path in sorted(_found(folder), key=lambda path: path.relative_to(folder).as_posix()):
        try:
            facts = path.stat()
        except OSError:  # a link that leads nowhere or in a circle, or a file that was removed just now
            continue
        has_video = has_video or stat.S_ISREG(facts.st_mode)
        sources.append(Source(path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns))
    if not has_video:
        raise DataError(f"{folder} holds no video; expected files that end in {', '.join(SUFFIXES)}")
    return sources


def _found(folder: Path) -> Iterator[Path]:
    """What is named like a video, but for folders with such files in them."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} may not be read: {error.strerror}") from error

    seen: set[str] = set()
    named: list[Path] = []
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        named.extend(Path(place, name) for name in folders if _is_named_like_a_video(name))
        files.extend(Path(place, name) for name in names if _is_named_like_a_video(name))
    yield from files
    with_files = {parent for path in files for parent in path.parents}
    yield from (path for path in named if path not in with_files)


def _is_named_like_a_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
