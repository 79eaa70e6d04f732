"""Notes of finished work for each video and each of its parts, stored next to the results.

``DATA/.prepare/<key>/video.json`` holds the survey of a video, with the parts into which it was divided;
``DATA/.prepare/<key>/<first frame>.json`` holds the result of a part. Notes are written atomically, and the
poses of a part are written before its note, so a part with a note is finished. While a process is at work, a
mark ``<name of the note>.begun`` lies there; only a process that dies leaves it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimic.data.index import as_json
from mimic.data.prepare.sources import Source
from mimic.data.rows import fault
from mimic.files import whole_file

FOLDER = ".prepare"

FAILED = "failed"
"""Reason of failures that are not caused by the video's content; the next run tries again."""

Row = dict[str, Any]

_SURVEY = "video.json"
_KEY = re.compile("[0-9a-f]{16}")
_NOTE = re.compile(r"(video|\d{8,})\.(json|begun)")
_BEGUN_NOTE = re.compile(r"\.(video|\d{8,})\.\d+\.partial\.json|(video|\d{8,})\.begun")
_LARGEST = 2**31
_REJECTED = {"video", "frames", "fps", "reason", "detail"}


@dataclass(frozen=True)
class Survey:
    """Result of the survey of one video."""

    video: str
    num_bytes: int
    changed_ns: int
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    parts: tuple[tuple[int, int], ...] = ()
    """Frame range (first, end) of each part whose poses are to be estimated."""
    rejected: tuple[Row, ...] = ()
    """Rows of the list of rejected."""


@dataclass(frozen=True)
class PartNote:
    """Result of one part: rows of the index (without the split) and rows of the list of rejected."""

    clips: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)


class Notes:
    """The notes of one prepared folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.folder = folder / FOLDER

    def survey(self, source: Source) -> Survey | None:
        """Return the survey of a video; None if there is none or the video has changed since."""
        survey = _survey(_read(self._of(source.key) / _SURVEY))
        if survey is None:
            return None
        is_same = (survey.num_bytes, survey.changed_ns) == (source.num_bytes, source.changed_ns)
        return survey if is_same else None

    def write_survey(self, source: Source, survey: Survey) -> None:
        """Write the survey of a video, after removing notes from before the video changed."""
        self._forget(self._of(source.key))
        _write(self._of(source.key) / _SURVEY, asdict(survey))

    def part(self, source: Source, first_frame: int) -> PartNote | None:
        """Return the result of a part; None if it is not finished."""
        note = _part(_read(self._part_path(source, first_frame)))
        if note is None:
            return None
        # A user may have removed pose files to save space.
        return note if all((self.data / row["poses"]).is_file() for row in note.clips) else None

    def write_part(self, source: Source, first_frame: int, note: PartNote) -> None:
        """Write the result of a part."""
        _write(self._part_path(source, first_frame), asdict(note))

    def clip_rows(self) -> list[Row]:
        """Return the rows of all clips in all notes."""
        notes = [_part(_read(path)) for folder in self._folders() for path in folder.glob("[0-9]*.json")]
        return [row for note in notes if note is not None for row in note.clips]

    def obstacle(self, sources: Sequence[Source]) -> Path | None:
        """Return a path that is needed for a note and occupied by something else; None if there is none."""
        for source in sources:
            folder = self._of(source.key)
            if folder.exists() and not folder.is_dir():
                return folder
            for path in folder.iterdir() if folder.is_dir() else ():
                if _NOTE.fullmatch(path.name) and not path.is_file():
                    return path
        return None

    def forget_failed(self, sources: Sequence[Source]) -> None:
        """Remove notes of failures with the reason `FAILED`, so that the work is tried again."""
        for source in sources:
            survey = self.survey(source)
            if survey is None:
                continue
            if _has_failed(survey.rejected):
                self._forget(self._of(source.key))
            for first, _ in survey.parts:
                note = self.part(source, first)
                if note is not None and _has_failed(note.rejected):
                    self._part_path(source, first).unlink(missing_ok=True)

    def mark_begun(self, source: Source, first_frame: int | None) -> None:
        """Mark that this process is at work on a part, or on the survey (None)."""
        mark = self._mark(source, first_frame)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def has_begun(self, source: Source, first_frame: int | None) -> bool:
        """Return whether a process is at work on a part or the survey, or has died at it."""
        return self._mark(source, first_frame).is_file()

    def forget_begun(self, source: Source, first_frame: int | None) -> None:
        """Remove the mark of `mark_begun`."""
        self._mark(source, first_frame).unlink(missing_ok=True)

    def missing_parts(self, source: Source, survey: Survey) -> list[tuple[int, int]]:
        """Return the parts of a video that are not finished."""
        return [part for part in survey.parts if self.part(source, part[0]) is None]

    def count(self, source: Source) -> int:
        """Count the notes of a video, which other processes may write or remove meanwhile."""
        try:
            return len(os.listdir(self._of(source.key)))
        except FileNotFoundError:
            return 0

    def is_finished(self, source: Source) -> bool:
        """Return whether all work on a video is finished."""
        survey = self.survey(source)
        return survey is not None and not self.missing_parts(source, survey)

    def forget_others(self, sources: Sequence[Source]) -> None:
        """Remove notes of videos that no longer exist, and temporary files and marks of killed processes."""
        keys = {source.key for source in sources}
        for folder in self._folders():
            for path in folder.iterdir():
                if _BEGUN_NOTE.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)
            if folder.name not in keys:
                self._forget(folder)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if _KEY.fullmatch(path.name) and path.is_dir()]

    def _forget(self, folder: Path) -> None:
        """Remove the notes in a folder, and the folder if it is then empty."""
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if _NOTE.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def _of(self, key: str) -> Path:
        return self.folder / key

    def _mark(self, source: Source, first_frame: int | None) -> Path:
        path = self._of(source.key) / _SURVEY if first_frame is None else self._part_path(source, first_frame)
        return path.with_suffix(".begun")

    def _part_path(self, source: Source, first_frame: int) -> Path:
        return self._of(source.key) / f"{first_frame:08d}.json"


def _survey(content: Row | None) -> Survey | None:
    """Parse the note of a survey; None if it is damaged, so that the work is done again."""
    if content is None:
        return None
    try:
        parts = tuple((first, end) for first, end in content["parts"])
        rejected = tuple(content["rejected"])
        survey = Survey(**{**content, "parts": parts, "rejected": rejected})
    except (KeyError, TypeError, ValueError):
        return None
    return survey if _is_sound(survey) and _are_rejected(rejected) else None


def _is_sound(survey: Survey) -> bool:
    """Return whether a survey has what the work on the parts needs."""
    sides = (survey.width, survey.height)
    if survey.fps is None and sides == (None, None) and not survey.parts:  # a video that was rejected
        return isinstance(survey.video, str)
    has_sides = all(type(side) is int and side > 0 for side in sides)
    numbers = [number for part in survey.parts for number in (0, *part)]
    ranges = zip(numbers[::3], numbers[1::3], numbers[2::3])
    are_parts = all(type(number) is int for number in numbers) and all(a <= b < c for a, b, c in ranges)
    return isinstance(survey.video, str) and has_sides and _is_rate(survey.fps) and are_parts


def _is_rate(fps: object) -> bool:
    return type(fps) in (int, float) and 0 < fps < _LARGEST  # type: ignore[operator]


def _part(content: Row | None) -> PartNote | None:
    """Parse the note of a part; None if it is damaged, so that the work is done again."""
    if content is None or set(content) != {"clips", "rejected"}:
        return None
    clips, rejected = content["clips"], content["rejected"]
    if not isinstance(clips, list) or not isinstance(rejected, list) or not _are_rejected(rejected):
        return None
    if not all(isinstance(row, dict) and fault(row, without=["split"]) is None for row in clips):
        return None
    return PartNote(clips, rejected)


def _are_rejected(rows: Sequence[Any]) -> bool:
    return all(
        isinstance(row, dict)
        and row.keys() >= _REJECTED
        and all(isinstance(row[name], str) for name in ("video", "reason", "detail"))
        and _is_stretch(row)
        for row in rows
    )


def _is_stretch(row: Row) -> bool:
    """Return whether a rejected row has a valid frame range."""
    frames, fps = row["frames"], row["fps"]
    if frames is None:
        return True
    is_pair = isinstance(frames, list) and [type(frame) for frame in frames] == [int, int]
    return is_pair and 0 <= frames[0] <= frames[1] and (fps is None or _is_rate(fps))


def _has_failed(rejected: Sequence[Row]) -> bool:
    return any(row["reason"] == FAILED for row in rejected)


def _read(path: Path) -> Row | None:
    """Read a note; None if it does not exist or is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: Row) -> None:
    with whole_file(path) as beside:
        beside.write_text(as_json(content), encoding="utf-8", newline="\n")
