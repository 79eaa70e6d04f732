"""Find the videos of a folder, and derive the names of their notes and clips."""

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
"""Name of the folder with poses in a prepared folder."""

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v", ".3gp", ".mpg", ".mpeg", ".wmv", ".mts")


@dataclass(frozen=True)
class Source:
    """One video of a folder."""

    video: str
    """Path relative to the folder, with ``/`` between folders."""
    num_bytes: int
    changed_ns: int
    """Modification time in ns; if it or the size changes, notes of the video are invalid."""

    @property
    def key(self) -> str:
        """Hash of the path in 16 hexadecimal digits, used in file names."""
        return hashlib.blake2b(os.fsencode(self.video), digest_size=8).hexdigest()

    @property
    def clip_prefix(self) -> str:
        """Prefix of the names of all clips of this video."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.video.rpartition(".")[0]).strip("-")[-40:].strip("-")
        return f"{readable or 'clip'}-{self.key[:8]}"

    def clip_name(self, first_frame: int) -> str:
        """Return a readable, unique name of the clip that begins at this frame."""
        return f"{self.clip_prefix}-{first_frame:06d}"


def poses_file(clip: str) -> str:
    """Return the path of a clip's poses, relative to the prepared folder."""
    return f"{POSES}/{clip}.npz"


def walk(folder: Path) -> list[Source]:
    """Find all videos in a folder recursively, sorted by name.

    Names that begin with a dot are skipped, and links are followed. Pipes, devices and folders without videos
    whose names look like a video's are included, so that they are rejected with a reason.

    Raises:
        DataError: the folder does not exist, cannot be read, or holds no video.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}; --videos takes the folder that holds the videos")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --videos takes the folder that holds the videos")
    sources, has_video = [], False
    for path in sorted(_found(folder), key=lambda path: path.relative_to(folder).as_posix()):
        try:
            facts = path.stat()
        except OSError:  # a broken or circular link, or a file that was just removed
            continue
        has_video = has_video or stat.S_ISREG(facts.st_mode)
        sources.append(Source(path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns))
    if not has_video:
        raise DataError(f"{folder} holds no video; expected files that end in {', '.join(SUFFIXES)}")
    return sources


def _found(folder: Path) -> Iterator[Path]:
    """Yield everything named like a video, except folders that contain such files."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen: set[str] = set()
    named: list[Path] = []
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link to a parent folder
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
