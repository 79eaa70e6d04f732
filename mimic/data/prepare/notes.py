"""What is finished already: notes beside the results, of each video and of each part of it.

``DATA/.prepare/<key>/video.json`` tells what a look through a video found and into which parts it was
divided; ``DATA/.prepare/<key>/<first frame>.json`` tells what a part gave. Each is whole or absent, and
poses are written before the note of their part: a part that has its note is finished.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimic.data.prepare.sources import Source
from mimic.files import whole_file

FOLDER = ".prepare"

Row = dict[str, Any]


@dataclass(frozen=True)
class Survey:
    """What a look through one video found."""

    video: str
    num_bytes: int
    changed_ns: int
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    parts: tuple[tuple[int, int], ...] = ()
    """First frame and the one after the last, of each stretch whose poses are to be found."""
    rejected: tuple[Row, ...] = ()
    """Rows of what cannot serve, for the list of rejected."""


@dataclass(frozen=True)
class PartNote:
    """What one part gave: rows of the index (all but the split) and rows of the list of rejected."""

    clips: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)


class Notes:
    """The notes of one prepared folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.folder = folder / FOLDER

    def survey(self, source: Source) -> Survey | None:
        """The survey of a video, None when there is none or the video has changed since."""
        content = _read(self._of(source.key) / "video.json")
        if content is None:
            return None
        content["parts"] = tuple((first, end) for first, end in content["parts"])
        content["rejected"] = tuple(content["rejected"])
        survey = Survey(**content)
        is_same = (survey.num_bytes, survey.changed_ns) == (source.num_bytes, source.changed_ns)
        return survey if is_same else None

    def write_survey(self, source: Source, survey: Survey) -> None:
        """Note a survey; what was found in the video before it changed is forgotten first."""
        shutil.rmtree(self._of(source.key), ignore_errors=True)
        _write(self._of(source.key) / "video.json", asdict(survey))

    def part(self, source: Source, first_frame: int) -> PartNote | None:
        """What a part gave, None when it is not finished."""
        content = _read(self._of(source.key) / f"{first_frame:08d}.json")
        if content is None:
            return None
        note = PartNote(**content)
        # Somebody may have removed poses to save space, not knowing that they are the result.
        return note if all((self.data / row["poses"]).is_file() for row in note.clips) else None

    def write_part(self, source: Source, first_frame: int, note: PartNote) -> None:
        _write(self._of(source.key) / f"{first_frame:08d}.json", asdict(note))

    def missing_parts(self, source: Source, survey: Survey) -> list[tuple[int, int]]:
        """The parts of a video that are not finished."""
        return [part for part in survey.parts if self.part(source, part[0]) is None]

    def count(self, source: Source) -> int:
        """How many notes there are about a video; they may come and go while this is asked."""
        try:
            return len(os.listdir(self._of(source.key)))
        except FileNotFoundError:
            return 0

    def is_finished(self, source: Source) -> bool:
        """Whether nothing of a video is left to do."""
        survey = self.survey(source)
        return survey is not None and not self.missing_parts(source, survey)

    def forget_others(self, sources: list[Source]) -> None:
        """Remove the notes of videos that are gone."""
        keys = {source.key for source in sources}
        for folder in self.folder.iterdir():
            if folder.name not in keys:
                shutil.rmtree(folder, ignore_errors=True)

    def _of(self, key: str) -> Path:
        return self.folder / key


def _read(path: Path) -> Row | None:
    """What a note says; None also where a failing disk has damaged it: then the work is done again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: Row) -> None:
    with whole_file(path) as beside:
        beside.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
