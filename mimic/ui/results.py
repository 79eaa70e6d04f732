"""The folder of results: each in a numbered folder of its own, found again by a new server."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mimic.ui.errors import StudioError
from pose.text import one_line

log = logging.getLogger("mimic")

VIDEO, REPORT, RECIPE, POSES = "result.mp4", "result.json", "result.yaml", "result.npz"
UPLOADS = ".uploads"
"""Folder of uploads, in the folder of results."""
_MOST_SENTENCES = 8
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a report raises that is missing, damaged or another program's."""
_NUMBERED = re.compile(r"(\d{4,})_")


@dataclass(frozen=True)
class Result:
    """A finished result in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def video(self) -> Path:
        return self.folder / VIDEO

    @property
    def side_by_side(self) -> Path:
        path = self.folder / VIDEO.replace(".mp4", "_side_by_side.mp4")
        return path if path.is_file() else self.video

    @property
    def files(self) -> list[Path]:
        """What can be downloaded: video, poses, YAML, JSON."""
        names = (VIDEO, POSES, RECIPE, REPORT)
        return [path for name in names if (path := self.folder / name).is_file()]

    def words(self) -> str:
        """What the result is, and what was poor about it.

        Raises:
            StudioError: its report is missing or damaged.
        """
        try:
            report = json.loads((self.folder / REPORT).read_text(encoding="utf-8"))
            output = report["output"]
            sentences = (report.get("verdict") or {}).get("sentences", [])
            verdict = [one_line(each) for each in sentences[:_MOST_SENTENCES]]
            num_frames, width, height = (int(output[name]) for name in ("num_frames", "width", "height"))
            said = f"{num_frames} frames of {width}x{height}, {report['seconds']:.0f} s."
            return " ".join([said, *(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in verdict)])
        except _DAMAGED as error:
            raise StudioError(f"the report of {self.name} is missing or damaged ({REPORT})") from error


def finished_results(folder: Path) -> list[Result]:
    """Finished results in a folder, the newest first."""
    found = [path.parent for path in folder.glob(f"*/{RECIPE}")]
    return [Result(path) for path in sorted(found, key=lambda path: (_number(path), path.name), reverse=True)]


def new_folder(folder: Path, words: str) -> Path:
    """Make the folder of a new result, ``0001_words``: numbered, so that two users never share one."""
    number = max(map(_number, folder.iterdir()), default=0) + 1
    made = folder / f"{number:04d}_{words}"
    made.mkdir()
    return made


def remove_left(folder: Path, *, older_than_s: float) -> None:
    """Remove what a killed server left behind: copies of uploads, and results that were never finished.

    Args:
        folder: of the results.
        older_than_s: age in seconds up to which they are kept; another server may be at work on them.
    """
    limit = time.time() - older_than_s
    for path in folder.glob(f"{UPLOADS}/**/*"):
        if path.is_file() and path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
    for path in folder.iterdir():
        if not path.is_dir() or _number(path) == 0 or (path / RECIPE).exists():
            continue
        if max(each.stat().st_mtime for each in (path, *path.rglob("*"))) < limit:
            log.info("removed %s, a result that was never finished", path)
            shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    named = _NUMBERED.match(path.name)
    return 0 if named is None else int(named[1])
