"""Files of poses: our own npz, and the JSON of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pose.formats.coco import read_coco, write_coco
from pose.formats.json_file import read_json
from pose.formats.npz import read_npz, write_npz
from pose.formats.openpose import is_openpose, read_openpose, read_openpose_folder, write_openpose
from pose.text import one_line, shown
from pose.types import PoseError, PoseSequence
from pose.video.source import why_no_file

WRITERS: dict[str, Callable[[PoseSequence, Path], None]] = {
    "npz": write_npz,
    "openpose": write_openpose,
    "coco": write_coco,
}


def write_poses(sequence: PoseSequence, path: str | os.PathLike[str], format: str | None = None) -> Path:
    """Write poses; see `PoseSequence.save`."""
    path = Path(path)
    if format is None:
        format = "openpose" if path.suffix.lower() == ".json" else "npz"
    if format not in WRITERS:
        raise PoseError(f"there is no pose format {shown(format)}; use one of {', '.join(WRITERS)}")
    WRITERS[format](sequence, path)
    return path


def read_poses(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> PoseSequence:
    """Read poses of any format; see `PoseSequence.load`."""
    path = Path(path)
    name = one_line(path, 500)  # an index may hold any text as one
    given: dict[str, Any] = {"fps": fps, "height": height, "width": width}
    try:
        is_folder = path.is_dir()
        other = None if is_folder else why_no_file(path)
    except (FileNotFoundError, ValueError):  # a name may hold a null byte
        raise FileNotFoundError(f"there is no pose file {name}") from None
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise PoseError(f"{name} cannot be read: {error.strerror}") from error
    if is_folder:
        return read_openpose_folder(path, **given)
    if other is not None:
        raise PoseError(f"{name} is {other}; expected a file of poses")
    if path.suffix.lower() != ".json":
        return read_npz(path)
    content = read_json(path)
    if is_openpose(content):
        return read_openpose(content, path, **given)
    return read_coco(content, path, **given)
