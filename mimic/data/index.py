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

from mimic.files import whole_file
from pose import PoseSequence

Split = Literal["train", "val"]

INDEX, REJECTED, SETTINGS = "index.jsonl", "rejected.jsonl", "prepare.json"


class DataError(OSError):
    """A prepared folder that is not there, not whole, or whose videos are gone."""


@dataclass(frozen=True)
class PreparedClip:
    """One stretch of a video without a cut, in which one person can be followed."""

    clip: str
    """Name of the clip, unlike any other's in the folder."""
    video: str
    """The source, relative to the folder of videos, with ``/`` between folders."""
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
    clips = [_clip(row, folder=folder, videos=place) for row in rows]
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
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise DataError(
        f"the videos of {folder} are not at {candidates[0]}; put them back there, or say where they are now"
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """How a prepared folder was made.

    Raises:
        DataError: it was not, or the file is damaged.
    """
    path = folder / SETTINGS
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(_is_not_prepared(folder)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(settings, dict) or "videos" not in settings or "videos_from_here" not in settings:
        raise DataError(f"{path} does not say where the videos are; prepare the folder again")
    return settings


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file of a prepared folder.

    Raises:
        DataError: there is no such file, or a line is no row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(_is_not_prepared(path.parent)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    rows = []
    # Not splitlines: it also splits at characters that may stand in the name of a file.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is damaged; run `mimic prepare` again, which rewrites it")
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write one JSON object a line, whole or not at all."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    with whole_file(path) as beside:
        beside.write_text("".join(lines), encoding="utf-8")
    return path


def _clip(row: dict[str, Any], *, folder: Path, videos: Path) -> PreparedClip:
    names = {field.name for field in fields(PreparedClip)} - {"folder", "videos"}
    missing = sorted(names - row.keys())
    if missing:
        name = row.get("clip", "without a name")
        raise DataError(f"{folder / INDEX}: the clip {name} lacks {', '.join(missing)}; prepare it again")
    return PreparedClip(**{name: row[name] for name in names}, folder=folder, videos=videos)


def _is_not_prepared(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}; `mimic prepare --videos DIR --out {folder}` makes it"
    if (folder / SETTINGS).is_file():
        return f"{folder} is not prepared to the end; run `mimic prepare` again, it goes on where it was"
    return f"{folder} is not prepared; run `mimic prepare --videos DIR --out {folder}`"
