"""What a prepared folder holds: its clips, one row each, and where their frames and poses lie.

A prepared folder is made by `mimic prepare`::

    DATA/index.jsonl      one clip a line
    DATA/rejected.jsonl   one line for each video, or part of one, that cannot serve, with the reason
    DATA/prepare.json     how it was made, and where the videos are
    DATA/poses/<clip>.npz one PoseSequence a clip, of one person
    DATA/contact.png      some clips with the skeleton drawn over the frame
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mimic.data.rows import fault, is_text, path_here, shortened
from mimic.files import whole_file
from pose import PoseSequence

Split = Literal["train", "val"]

INDEX, REJECTED, SETTINGS = "index.jsonl", "rejected.jsonl", "prepare.json"

VERSION = 1
"""Of the work done on a video. It rises when the same videos and settings give other results."""

_AGAIN = "run `mimic prepare` again, which rewrites it"


class DataError(OSError):
    """A prepared folder that is not there, not whole, or whose videos are gone."""


@dataclass(frozen=True)
class PreparedClip:
    """One stretch of a video without a cut, in which one person can be followed."""

    clip: str
    """Name of the clip, unlike any other's in the folder."""
    video: str
    """The source, relative to the folder of videos (or absolute), with ``/`` between folders."""
    first_frame: int
    """Where the clip begins, counted as `mimic.video.read_frames` gives the frames of the video."""
    num_frames: int
    """Frames in the clip; the poses have as many."""
    fps: float
    """Frames a second, of the video and of the poses."""
    width: int
    """Pixels of a frame as it is shown."""
    height: int
    """Pixels of a frame as it is shown."""
    poses: str
    """File of the poses, relative to the prepared folder."""
    person_coverage: float
    """Share of the frames that show the person, 0 to 1."""
    body_confidence: float
    """Mean confidence of the body's joints over the frames that show the person."""
    hand_confidence: float
    """Mean confidence of the points of both hands over the frames that show the person."""
    split: Split
    """What the clip is for. All clips of one video have the same."""
    folder: Path = Path()
    """The prepared folder, as it was read; no part of the row."""
    videos: Path = Path()
    """The folder of the videos, as it was found; no part of the row."""

    @property
    def video_path(self) -> Path:
        """The file with the frames."""
        return self.videos / self.video

    @property
    def poses_path(self) -> Path:
        """The file with the poses."""
        return self.folder / self.poses

    def load_poses(self) -> PoseSequence:
        """The poses of the clip's frames: P = 1.

        Raises:
            FileNotFoundError, PoseError: the file is gone or damaged.
        """
        return PoseSequence.load(self.poses_path)


def read_index(
    folder: str | os.PathLike[str],
    *,
    split: Split | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> list[PreparedClip]:
    """The clips of a prepared folder, in the order of the index.

    Args:
        split: only those of this split.
        videos: where the videos are now, if they have moved since.

    Raises:
        DataError: the folder is not prepared, its index is damaged, or its videos are not found.
    """
    folder = Path(folder).expanduser()
    rows = read_rows(folder / INDEX)
    place = find_videos(folder, videos)
    clips = [_clip(row, line, folder=folder, videos=place) for line, row in enumerate(rows, start=1)]
    return [clip for clip in clips if split is None or clip.split == split]


def write_index(folder: str | os.PathLike[str], clips: Iterable[PreparedClip]) -> Path:
    """Write the index of a prepared folder, whole or not at all."""
    rows = []
    for clip in clips:
        row = asdict(clip)
        del row["folder"], row["videos"]
        rows.append(row)
    return write_rows(Path(folder) / INDEX, rows)


def find_videos(folder: Path, videos: str | os.PathLike[str] | None = None) -> Path:
    """Where the videos of a prepared folder are: as told, as written, or in the same place beside the folder.

    Raises:
        DataError: nowhere of these.
    """
    if videos is not None:
        candidates = [Path(videos).expanduser()]
    else:
        settings = read_settings(folder)
        candidates = [Path(settings["videos"]), folder / settings["videos_from_here"]]
        if "\\" in settings["videos_from_here"]:
            candidates.append(folder / settings["videos_from_here"].replace("\\", "/"))
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise DataError(
        f"the videos of {folder} are not at {candidates[0]}; put them back there, or say where they are now"
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """How a prepared folder was made.

    Raises:
        DataError: it was not prepared, the file is damaged, or it was written by a later release.
    """
    path = folder / SETTINGS
    text = _read(path)
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise DataError(f"{path}: line {line} is damaged; prepare into another folder") from error
    if not isinstance(settings, dict) or "videos" not in settings or "videos_from_here" not in settings:
        raise DataError(f"{path} does not say where the videos are; prepare the folder again")
    for name in ("videos", "videos_from_here"):
        if not is_text(settings[name]):
            found = shortened(settings[name])
            raise DataError(f"{path}: {name} is {found}; expected the path of a folder")
    if "settings" in settings:
        _check_version(path, settings["settings"])
    return settings


def _check_version(path: Path, settings: object) -> None:
    if not isinstance(settings, dict):
        raise DataError(f"{path}: settings is {shortened(settings)}; expected an object")
    version = settings.get("version")
    if type(version) is not int:
        found = shortened(version)
        raise DataError(f"{path}: the version is {found}; expected a whole number up to {VERSION}")
    if version > VERSION:
        raise DataError(
            f"{path} has version {shortened(version)}; this release reads up to {VERSION}. Update mimic"
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file of a prepared folder.

    Raises:
        DataError: there is no such file, or a line is no row.
    """
    text = _read(path)
    rows = []
    # Not splitlines: it also splits at characters that may stand in the name of a file.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is damaged; {_AGAIN}")
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write one JSON object a line, whole or not at all."""
    with whole_file(path) as beside:
        text = "".join(as_json(row) + "\n" for row in rows)
        beside.write_text(text, encoding="utf-8", newline="\n")
    return path


def as_json(content: object) -> str:
    """One line of JSON with all letters as they are, unless a name of a file is not valid text."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content)
    return text


def _clip(row: dict[str, Any], line: int, *, folder: Path, videos: Path) -> PreparedClip:
    where = f"{folder / INDEX}: line {line}"
    problem = fault(row)
    if problem is not None:
        raise DataError(f"{where}: {problem}; {_AGAIN}")
    names = {field.name for field in fields(PreparedClip)} - {"folder", "videos"}
    content = {name: row[name] for name in names}
    for name, base in (("video", videos), ("poses", folder)):
        try:
            content[name] = path_here(row[name], base, may_be_absolute=name == "video")
        except ValueError as error:
            raise DataError(f"{where}: {name} is {error}; {_AGAIN}") from None
    return PreparedClip(**content, folder=folder, videos=videos)


def _read(path: Path) -> str:
    """The text of a file of a prepared folder.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(_is_not_prepared(path.parent)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is damaged: it is no UTF-8 text; {_AGAIN}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _is_not_prepared(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}; `mimic prepare --videos DIR --out {folder}` makes it"
    if (folder / SETTINGS).is_file():
        return f"{folder} is not prepared to the end; run `mimic prepare` again, it goes on where it was"
    return f"{folder} is not prepared; run `mimic prepare --videos DIR --out {folder}`"
