"""Read and write the index of a prepared folder, which has one row for each clip.

A prepared folder is made by `mimic prepare`::

    DATA/index.jsonl      one line for each clip
    DATA/rejected.jsonl   one line for each rejected video, or part of one, with the reason
    DATA/prepare.json     the settings of prepare, and the folder of the videos
    DATA/poses/<clip>.npz one PoseSequence for each clip, with one person
    DATA/contact.png      some clips with the skeleton drawn over the frame
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mimic.data.rows import fault, is_text, path_here
from mimic.files import local_path, whole_file
from pose import PoseSequence
from pose.text import shown

Split = Literal["train", "val"]

INDEX, REJECTED, SETTINGS = "index.jsonl", "rejected.jsonl", "prepare.json"

VERSION = 1
"""Version of the folder; raised when the same videos and settings give different results."""

_AGAIN = "run `mimic prepare` again, which rewrites it"


class DataError(OSError):
    """A prepared folder that is missing, incomplete or damaged, or whose videos are missing."""


@dataclass(frozen=True)
class PreparedClip:
    """A range of a video without cuts, in which one person can be followed."""

    clip: str
    """Name of the clip, unique in the folder."""
    video: str
    """Path of the video, relative to the folder of videos or absolute, with ``/`` between folders."""
    first_frame: int
    """Index of the clip's first frame, among the frames that `mimic.video.read_frames` yields for the
    video."""
    num_frames: int
    """Number of frames of the clip and of its poses."""
    fps: float
    """Frames per second of the video and of the poses."""
    width: int
    """Width of a frame in pixels, as displayed."""
    height: int
    """Height of a frame in pixels, as displayed."""
    poses: str
    """Path of the pose file, relative to the prepared folder."""
    person_coverage: float
    """Fraction of the frames that show the person, 0 to 1."""
    body_confidence: float
    """Mean confidence of the body's joints over the frames that show the person."""
    hand_confidence: float
    """Mean confidence of the keypoints of both hands over the frames that show the person."""
    split: Split
    """Split of the clip, the same for all clips of one video."""
    folder: Path = Path()
    """The prepared folder; not part of the row."""
    videos: Path = Path()
    """The folder of the videos, as found; not part of the row."""

    @property
    def video_path(self) -> Path:
        """Path of the video file."""
        return self.videos / self.video

    @property
    def poses_path(self) -> Path:
        """Path of the pose file."""
        return self.folder / self.poses

    def load_poses(self) -> PoseSequence:
        """Load the poses of the clip's frames, P = 1.

        Raises:
            FileNotFoundError, PoseError: the file is missing or damaged.
        """
        return PoseSequence.load(self.poses_path)


def read_index(
    folder: str | os.PathLike[str],
    *,
    split: Split | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> list[PreparedClip]:
    """Read the clips of a prepared folder, in the order of the index.

    Args:
        folder: the prepared folder.
        split: return only the clips of this split; None returns all.
        videos: current folder of the videos, if they have been moved.

    Raises:
        DataError: the folder is not prepared, its index is damaged, or its videos are not found.
    """
    folder = local_path(folder)
    rows = read_rows(folder / INDEX)
    place = find_videos(folder, videos)
    clips = [_clip(row, line, folder=folder, videos=place) for line, row in enumerate(rows, start=1)]
    return [clip for clip in clips if split is None or clip.split == split]


def write_index(folder: str | os.PathLike[str], clips: Iterable[PreparedClip]) -> Path:
    """Write the index of a prepared folder atomically and return its path."""
    rows = []
    for clip in clips:
        row = asdict(clip)
        del row["folder"], row["videos"]
        rows.append(row)
    return write_rows(Path(folder) / INDEX, rows)


def find_videos(folder: Path, videos: str | os.PathLike[str] | None = None) -> Path:
    """Find the folder of videos: the given one, the recorded one, or the one at the recorded relative path.

    Raises:
        DataError: none of them exists.
    """
    if videos is not None:
        candidates = [local_path(videos)]
    else:
        settings = read_settings(folder)
        candidates = [Path(settings["videos"]), folder / settings["videos_from_here"]]
        if "\\" in settings["videos_from_here"]:
            candidates.append(folder / settings["videos_from_here"].replace("\\", "/"))
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise DataError(
        f"the videos of {folder} are not at {candidates[0]}; put them back there, or name their new folder"
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings with which a prepared folder was made.

    Raises:
        DataError: the folder is not prepared, the file is damaged, or a later release wrote it.
    """
    path = folder / SETTINGS
    text = _read(path)
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise DataError(f"{path}: line {line} is damaged; prepare into another folder") from error
    if not isinstance(settings, dict) or "videos" not in settings or "videos_from_here" not in settings:
        raise DataError(f"{path} does not name the folder of the videos; prepare the folder again")
    for name in ("videos", "videos_from_here"):
        if not is_text(settings[name]):
            found = shown(settings[name])
            raise DataError(f"{path}: {name} is {found}; expected the path of a folder")
    if "settings" in settings:
        _check_version(path, settings["settings"])
    return settings


def _check_version(path: Path, settings: object) -> None:
    if not isinstance(settings, dict):
        raise DataError(f"{path}: settings is {shown(settings)}; expected an object")
    version = settings.get("version")
    if type(version) is not int:
        found = shown(version)
        raise DataError(f"{path}: the version is {found}; expected a whole number up to {VERSION}")
    if version > VERSION:
        raise DataError(
            f"{path} has version {shown(version)}; this release reads up to {VERSION}. Update mimic"
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON Lines file of a prepared folder.

    Raises:
        DataError: the file does not exist, or a line is not a JSON object.
    """
    text = _read(path)
    rows = []
    # Not splitlines, which also splits at characters that are allowed in file names.
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
    """Write one JSON object per line, atomically, and return the path."""
    with whole_file(path) as beside:
        text = "".join(as_json(row) + "\n" for row in rows)
        beside.write_text(text, encoding="utf-8", newline="\n")
    return path


def as_json(content: object) -> str:
    """Format as one line of JSON, without escaping letters unless a file name is not valid text."""
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
    """Read a text file of a prepared folder.

    Raises:
        DataError: the file does not exist or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(_is_not_prepared(path.parent)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is damaged: it is not UTF-8 text; {_AGAIN}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _is_not_prepared(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}; `mimic prepare --videos DIR --out {folder}` makes it"
    if (folder / SETTINGS).is_file():
        return f"{folder} is not completely prepared; rerun `mimic prepare` to resume"
    return f"{folder} is not prepared; run `mimic prepare --videos DIR --out {folder}`"
