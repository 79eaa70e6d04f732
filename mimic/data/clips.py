"""Sources of a dataset's frames and poses: the interface, and the clips of a prepared folder.

Legend: F frames, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic.data.index import DataError, PreparedClip, read_index
from mimic.data.settings import DataSettings
from mimic.video.seek import ReaderPool
from pose import PoseSequence
from pose.densepose import read_densepose

_POSES_KEPT = 64  # clips whose poses stay in memory
_HASHED_BYTES = 1 << 16


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip that are known before its frames are read."""

    name: str
    video: str
    """Identifies the video; clips of one video have the same value."""
    first_frame: int
    """Index in the video of the clip's first frame."""
    num_frames: int
    fps: float
    height: int
    width: int


class ClipSource(Protocol):
    """Clips by index. Each worker process gets a pickled copy, which must not contain open files."""

    infos: Sequence[ClipInfo]

    def poses(self, clip: int) -> PoseSequence | None:
        """Return the poses of all frames of a clip, one person; None if only `load` returns poses."""

    def identity(self, clip: int) -> str:
        """Return a string that changes whenever the clip's pictures change."""

    def load(
        self, clip: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[NDArray[np.uint8]], PoseSequence]:
        """Read frames of a clip and their poses.

        Args:
            clip: index of the clip.
            frames: indices of frames in the clip, in any order.
            rng: for sources with random errors in their poses.

        Returns:
            RGB frames, uint8 ``H x W x 3`` each, and their poses, in the order of `frames`.
        """

    def parts(self, clip: int, frames: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return the body part that each pixel of these frames shows, uint8 ``H x W`` each, with DensePose's
        numbering; only called for ``pose_kind: densepose``."""


class PreparedClips:
    """The clips of one split of a prepared folder.

    Args:
        settings: names the folder.
        split: ``train`` or ``val``.

    Raises:
        DataError: the folder is not prepared, or files named by its index are missing.
    """

    def __init__(self, settings: DataSettings, split: str) -> None:
        assert settings.path is not None
        self._clips = [
            clip for clip in read_index(settings.path, videos=settings.videos) if clip.split == split
        ]
        _check_files(self._clips)
        self._densepose: dict[str, Path] = {}
        if settings.pose_kind == "densepose" and settings.densepose_videos is not None:
            self._densepose = _densepose_videos(self._clips, Path(settings.densepose_videos))
        self.infos: Sequence[ClipInfo] = [
            ClipInfo(
                name=clip.clip,
                video=clip.video,
                first_frame=clip.first_frame,
                num_frames=clip.num_frames,
                fps=clip.fps,
                height=clip.height,
                width=clip.width,
            )
            for clip in self._clips
        ]
        self._forget()

    def poses(self, clip: int) -> PoseSequence:
        """Read the poses of all frames of a clip.

        Raises:
            DataError: their number differs from the clip's number of frames.
            FileNotFoundError, PoseError: the file is missing or damaged.
        """
        poses = self._poses.pop(clip, None)
        if poses is None:
            row = self._clips[clip]
            poses = row.load_poses()
            if len(poses) != row.num_frames:
                raise DataError(
                    f"{row.poses_path} has poses of {len(poses)} frames; the index says that the clip has "
                    f"{row.num_frames}. Run `mimic prepare` again"
                )
            while len(self._poses) >= _POSES_KEPT:
                self._poses.popitem(last=False)
        self._poses[clip] = poses
        return poses

    def load(
        self, clip: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[NDArray[np.uint8]], PoseSequence]:
        """See `ClipSource`."""
        row = self._clips[clip]
        pictures = self._readers.read(row.video_path, [row.first_frame + frame for frame in frames])
        for picture in pictures:
            if picture.shape[:2] != (row.height, row.width):
                raise DataError(
                    f"{row.video_path} has frames of {picture.shape[1]}x{picture.shape[0]}; the index says "
                    f"{row.width}x{row.height}. Run `mimic prepare` again"
                )
        return pictures, self.poses(clip)[list(frames)]

    def parts(self, clip: int, frames: Sequence[int]) -> list[NDArray[np.uint8]]:
        """See `ClipSource`; parts are read from the colours of the DensePose video."""
        row = self._clips[clip]
        path = self._densepose[row.video]
        pictures = self._readers.read(path, [row.first_frame + frame for frame in frames])
        if pictures[0].shape[:2] != (row.height, row.width):
            raise DataError(
                f"{path} has frames of {pictures[0].shape[1]}x{pictures[0].shape[0]}, its video of "
                f"{row.width}x{row.height}; a DensePose video has to have the size of its video"
            )
        return [read_densepose(picture) for picture in pictures]

    def identity(self, clip: int) -> str:
        """See `ClipSource`; made of the video file's size, modification time and a hash of its start and
        end."""
        path = self._clips[clip].video_path
        if path not in self._identities:
            state, digest = path.stat(), hashlib.sha256()
            with open(path, "rb") as file:
                digest.update(file.read(_HASHED_BYTES))
                file.seek(max(0, state.st_size - _HASHED_BYTES))
                digest.update(file.read(_HASHED_BYTES))
            self._identities[path] = f"{state.st_size} {state.st_mtime_ns} {digest.hexdigest()}"
        return self._identities[path]

    def _forget(self) -> None:
        self._readers = ReaderPool()
        self._poses: OrderedDict[int, PoseSequence] = OrderedDict()
        self._identities: dict[Path, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_poses": OrderedDict(), "_identities": {}}


def _densepose_videos(clips: Sequence[PreparedClip], folder: Path) -> dict[str, Path]:
    """Find the DensePose video of each video.

    Raises:
        DataError: one is missing.
    """
    found: dict[str, Path] = {}
    for video in sorted({clip.video for clip in clips}):
        places = [folder / video, (folder / video).with_suffix(".densepose.mp4")]
        there = [place for place in places if place.is_file()]
        if not there:
            raise DataError(f"there is no DensePose video of {video}: neither {places[0]} nor {places[1]}")
        found[video] = there[0]
    return found


def _check_files(clips: Sequence[PreparedClip]) -> None:
    for what, paths in (
        ("videos", {clip.video_path for clip in clips}),
        ("files of poses", {clip.poses_path for clip in clips}),
    ):
        missing = sorted(path for path in paths if not path.is_file())
        if missing:
            raise DataError(
                f"{len(missing)} of {len(paths)} {what} are gone, such as {missing[0]}. Put them back, or "
                "run `mimic prepare` again"
            )
