"""Determine which files of a prepared folder `mimic prepare` wrote; only those are ever replaced or removed.

They are named by the folder's index and notes. All other files belong to the user; they are kept and
reported.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mimic.data.index import INDEX, REJECTED, SETTINGS, DataError, PreparedClip, read_rows
from mimic.data.prepare.notes import FOLDER, Notes
from mimic.data.prepare.sources import POSES, Source
from pose import PoseError, PoseSequence

CONTACT_SHEET = "contact.png"

_FILES = (INDEX, REJECTED, SETTINGS, CONTACT_SHEET)
_MOST_NAMED = 8
# Names of temporary files left by killed processes: see `mimic.files.whole_file` and `PoseSequence.save`.
_BEGUN_FILE = re.compile(r"\.(index|rejected|prepare|contact)\.\d+\.partial\.(jsonl|json|png)")
_BEGUN_POSES = re.compile(r"\.[A-Za-z0-9-]+-[0-9a-f]{8}-\d{6,}\.npz\.\d+\.tmp")


def own_poses(folder: Path) -> set[str]:
    """Return the names of pose files listed in the index or the notes of a prepared folder."""
    rows = Notes(folder).clip_rows()
    # A damaged index lists no files, so that nothing is removed.
    with contextlib.suppress(DataError):
        rows.extend(read_rows(folder / INDEX))
    names = (PurePosixPath(row["poses"]).parts for row in rows if isinstance(row.get("poses"), str))
    return {parts[1] for parts in names if len(parts) == 2 and parts[0] == POSES}


def check_places(folder: Path, sources: Sequence[Source], own: set[str]) -> None:
    """Check that all files to be written have free paths, before the work begins.

    Raises:
        DataError: a path is occupied by a folder, or by a file that prepare did not write.
    """
    for name in _FILES:
        if (folder / name).is_dir():
            raise DataError(f"{folder / name} is a folder, where a file is to be written; move it away")
    for name in (POSES, FOLDER):
        if (folder / name).exists() and not (folder / name).is_dir():
            raise DataError(f"{folder / name} is a file, where a folder is to be made; move it away")
    problem = Notes(folder).obstacle(sources)
    if problem is not None:
        raise DataError(f"{problem} is in the way of the notes of prepare; move it away")
    if (folder / CONTACT_SHEET).exists() and not has_contact_sheet(folder):
        raise DataError(
            f"{folder / CONTACT_SHEET} is not from prepare, which writes a file with that name; move it away"
        )
    prefixes = {source.clip_prefix: source for source in sources}
    for path in _entries(folder / POSES):
        source = prefixes.get(path.stem.rpartition("-")[0])
        if source is None or not _is_name_of_clip(path.name, source):
            continue
        if path.is_dir():
            raise DataError(f"{path} is a folder, where poses are to be written; move it away")
        if path.name not in own and not _holds_poses_of(path, source):
            raise DataError(f"{path} is not from prepare, and poses are to be written there; move it away")


def has_contact_sheet(folder: Path) -> bool:
    """Return whether an existing contact sheet is from prepare, which writes one with each index with
    clips."""
    index = folder / INDEX
    return index.is_file() and index.stat().st_size > 0


def not_ours(folder: Path, sources: Sequence[Source], own: set[str]) -> list[Path]:
    """Return files and folders in a prepared folder that prepare did not write, except hidden ones."""
    prefixes = {source.clip_prefix for source in sources}
    known = {*_FILES, POSES}
    found = [path for path in _entries(folder) if path.name not in known]
    for path in _entries(folder / POSES):
        if path.name not in own and path.stem.rpartition("-")[0] not in prefixes:
            found.append(path)
    return [path for path in found if not path.name.startswith(".")]


def named(paths: Sequence[Path]) -> str:
    """Format paths for a message, shortened if there are many."""
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(map(str, paths[:_MOST_NAMED])) + more


def clean(folder: Path, own: set[str], clips: Iterable[PreparedClip], sources: Sequence[Source]) -> None:
    """Remove stale files of earlier runs: poses of no clip, notes of videos that no longer exist, temporary
    files of killed processes.

    Args:
        folder: the prepared folder.
        own: result of `own_poses` before the work.
        clips: all clips of the new index.
        sources: all videos.
    """
    Notes(folder).forget_others(sources)
    for name in own - {PurePosixPath(clip.poses).name for clip in clips}:
        if (folder / POSES / name).is_file():
            (folder / POSES / name).unlink()
    for place, begun in ((folder, _BEGUN_FILE), (folder / POSES, _BEGUN_POSES)):
        for path in _entries(place):
            if begun.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


def _is_name_of_clip(name: str, source: Source) -> bool:
    frame = name.removesuffix(".npz").rpartition("-")[2]
    return frame.isascii() and frame.isdecimal() and name == f"{source.clip_name(int(frame))}.npz"


def _holds_poses_of(path: Path, source: Source) -> bool:
    """Return whether a file holds poses of a source: written by a run that was killed before writing the
    note."""
    try:
        return PoseSequence.load(path).metadata.get("source") == source.video
    except (PoseError, OSError):
        return False


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
