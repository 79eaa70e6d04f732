"""The poses of both sides: the reference's own, the driving clip's fitted to it, and the maps drawn of them.

Legend: F frames, H height, W width; pose maps are RGB uint8.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.video import VideoInfo, probe, read_frames, released_stride
from pose import PoseError, PoseSequence, align_pose, follow_person, smooth_pose
from pose.draw import RELEASED_CANVAS_SHORT_SIDE, DrawMode, PosePainter
from pose.estimators import Estimator
from pose.types import concatenate

Progress = Callable[[int, int | None], None]

MAX_KEPT_MAPS_MB = 256


@dataclass(frozen=True)
class Driving:
    """What drives, and the clip it is from."""

    poses: PoseSequence | None
    """One person (or all, if asked), at the rate after the stride; None where maps of body parts drive."""
    stride: int
    """Frames of the clip that one of these stands for."""
    source_fps: float
    """Frame rate of the clip."""
    clip: VideoInfo | None
    """None where the poses came as poses."""
    num_maps: int = 0
    """Where no poses drive: how many maps do."""

    @property
    def num_frames(self) -> int:
        """Driving frames after the stride."""
        return self.num_maps if self.poses is None else len(self.poses)

    @property
    def fps(self) -> float:
        """Frames a second after the stride."""
        return self.source_fps / self.stride if self.poses is None else self.poses.fps

    @property
    def source_seconds(self) -> float:
        """How much of the clip's time the driving frames cover."""
        return self.num_frames * self.stride / self.source_fps


def read_driving(
    driving: str | os.PathLike[str] | PoseSequence,
    estimator: Callable[[], Estimator],
    settings: CaseSettings,
    *,
    progress: Progress | None = None,
) -> Driving:
    """The driving poses: of a clip, estimated frame by frame as it is decoded; or as they were saved.

    Args:
        driving: a clip, a ``.npz`` of poses, or the poses themselves.
        estimator: gives the estimator, if it is needed.

    Raises:
        FileNotFoundError, VideoError: there is no clip that can be read.
        PoseError: nobody is in it, or it is no file of poses.
    """
    name = "the driving poses" if isinstance(driving, PoseSequence) else os.fspath(driving)
    if not isinstance(driving, PoseSequence) and Path(driving).suffix.lower() == ".npz":
        driving = PoseSequence.load(driving)
    try:
        if isinstance(driving, PoseSequence):
            stride = released_stride(settings.sample_stride, driving.fps)
            poses = driving[slice(0, None, stride)][slice(0, settings.max_frames)]
            poses = follow_person(replace(poses, fps=driving.fps / stride), settings.person)
            return Driving(poses, stride, driving.fps, None)
        clip = probe(driving)
        stride = released_stride(settings.sample_stride, clip.fps)
        frames = read_frames(driving, stride=stride, max_frames=settings.max_frames, info=clip)
        total = num_driving_frames(clip, settings)
        poses = estimator().frames(
            frames, fps=float(clip.fps / stride), person=settings.person, total=total, progress=progress
        )
        return Driving(poses, stride, float(clip.fps), clip)
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from error


def num_driving_frames(clip: VideoInfo, settings: CaseSettings) -> int:
    """How many frames of a clip are used."""
    num_frames = -(-clip.num_frames // released_stride(settings.sample_stride, clip.fps))
    return min(num_frames, settings.max_frames or num_frames)


def reference_poses(
    picture: NDArray[np.uint8],
    estimator: Estimator,
    settings: CaseSettings,
    *,
    name: str = "the reference picture",
) -> PoseSequence:
    """The pose of the person of a reference, F = 1.

    Raises:
        PoseError: nobody is found.
    """
    found = estimator.image(picture)
    if found.num_people == 0 or found.is_present is None or not found.is_present.any():
        raise PoseError(
            f"{name}: nobody is found in the picture; use one that shows a person, the whole body if possible"
        )
    try:
        return follow_person(found, settings.reference_person)
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from error


def fit_to_reference(driving: PoseSequence, reference: PoseSequence, settings: CaseSettings) -> PoseSequence:
    """All poses that the model is shown: frame 0 the reference's own, then the driving ones fitted to it.

    Raises:
        PoseError: there is nothing to fit; the message names another `align`.
    """
    driving = smooth_pose(driving, window=settings.smooth)
    try:
        aligned = align_pose(driving, reference, mode=settings.align)
    except PoseError as error:
        remedy = "; align: robust needs less" if settings.align == "released" else ""
        raise PoseError(f"the driving poses cannot be fitted to the reference: {error}{remedy}") from error
    both = concatenate([reference, aligned])
    return replace(both, fps=driving.fps, metadata={**reference.metadata, **aligned.metadata})


class PoseMaps:
    """Pose maps drawn when they are asked for: ``maps([3, 4])`` is uint8 ``2 x H x W x 3``.

    Drawn maps are kept up to a budget (256 MB, about 150 frames at 576 x 1024) and those beyond it are drawn
    again, so that a long clip does not fill the memory.
    """

    def __init__(
        self,
        poses: PoseSequence,
        height: int,
        width: int,
        *,
        mode: DrawMode = "confidence",
        canvas_short_side: int | None = None,
    ) -> None:
        canvas_short_side = canvas_short_side or RELEASED_CANVAS_SHORT_SIDE
        self._painter = PosePainter(height, width, mode=mode, canvas_short_side=canvas_short_side)
        self._poses, self._mode, self._canvas_short_side = poses, mode, canvas_short_side
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._max_kept = MAX_KEPT_MAPS_MB * 2**20 // (3 * height * width)

    def __len__(self) -> int:
        return len(self._poses)

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        return np.stack([self.draw(frame) for frame in frames])

    def resized(self, height: int, width: int) -> PoseMaps:
        """The same poses drawn at another size."""
        return PoseMaps(
            self._poses, height, width, mode=self._mode, canvas_short_side=self._canvas_short_side
        )

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """One map, uint8 ``H x W x 3``."""
        if frame in self._kept:
            return self._kept[frame]
        assert self._poses.is_present is not None
        drawn = self._painter.draw(
            self._poses.points[frame], self._poses.scores[frame], self._poses.is_present[frame]
        )
        if len(self._kept) < self._max_kept:
            self._kept[frame] = drawn
        return drawn


def output_fps(driving: Driving, settings: CaseSettings) -> Fraction:
    """Frames a second of the result: as set, or the driving frames' own."""
    return Fraction(settings.fps if settings.fps is not None else driving.fps).limit_denominator(1001)
