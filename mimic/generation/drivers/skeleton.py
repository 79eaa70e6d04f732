"""Driver with skeletons: the poses of a clip, aligned with the reference's and drawn as maps.

Legend: F frames, H height, W width; pose maps are RGB uint8.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.data.transforms import prepare_reference
from mimic.families.base import AnimationPipeline
from mimic.generation.drivers.base import (
    POSE_SUFFIXES,
    Driver,
    Driving,
    Picture,
    num_driving_frames,
)
from mimic.generation.pose_cache import PoseCache
from mimic.generation.reference import Reference
from mimic.progress import Progress
from mimic.video import VideoError, VideoInfo, probe, read_frames, released_stride
from pose import PoseError, PoseSequence, align_pose, follow_person, smooth_pose
from pose.draw import RELEASED_CANVAS_SHORT_SIDE, DrawMode, PosePainter
from pose.drawings import is_skeleton_drawing
from pose.estimators import Estimator
from pose.gaps import bridge_gaps
from pose.presence import summarise_presence
from pose.types import concatenate

log = logging.getLogger("mimic")

MAX_KEPT_MAPS_MB = 256

# Estimators are reliable for people from about this size on; smaller references are enlarged first.
MIN_ESTIMATION_SIDE = 384


_FRAMES_LOOKED_AT = 3


class SkeletonDriver(Driver):
    """Drives with the skeletons of one person, or of all persons of a clip."""

    takes_poses = True

    def check_reference(self, picture: Picture, settings: CaseSettings, *, name: str) -> None:
        """Raise `PoseError` if no person is found in the picture."""
        height, width = picture.shape[:2]
        self.reference_pose(picture, height, width, settings, name=name)

    def check_driving(self, driving: Path | PoseSequence, settings: CaseSettings) -> None:
        """Accept any clip; whether it can be read is checked elsewhere."""

    def reference_pose(
        self, picture: Picture, height: int, width: int, settings: CaseSettings, *, name: str
    ) -> PoseSequence:
        """Estimate the pose of a picture, in fractions of the part of it that the result shows.

        Raises:
            PoseError: no person is found (a `ValueError`).
        """
        factor = -(-MIN_ESTIMATION_SIDE // min(height, width))
        looked_at = prepare_reference(picture, height=factor * height, width=factor * width)
        found = self.tools.estimator().image(looked_at)
        if found.num_people == 0 or found.is_present is None or not found.is_present.any():
            raise PoseError(
                f"{name}: nobody is found in the picture; use one that shows a person, the whole body if "
                "possible"
            )
        try:
            return follow_person(found, settings.reference_person)
        except PoseError as error:
            raise PoseError(f"{name}: {error}") from error

    def read(
        self,
        driving: str | os.PathLike[str] | PoseSequence,
        reference: Reference,
        pipeline: AnimationPipeline[Any, Any],
        settings: CaseSettings,
        *,
        progress: Progress | None = None,
    ) -> Driving:
        """Read or estimate the driving poses and align them with the reference's.

        Raises:
            FileNotFoundError, VideoError: the clip is missing or cannot be read.
            PoseError: no person is found, a file holds no poses, or the poses cannot be aligned.
        """
        found = read_poses(
            driving, self.tools.estimator, settings, progress=progress, cache=self.tools.pose_cache
        )
        presence = summarise_presence(found.poses)
        for sentence in presence.sentences():
            log.info("the driving clip: %s", sentence)
        assert reference.pose is not None
        poses = fit_to_reference(found.poses, reference.pose, settings)
        maps = SkeletonMaps(
            poses,
            reference.height,
            reference.width,
            mode=settings.draw,
            canvas_short_side=pipeline.generation_defaults.get("canvas_short_side"),
        )
        return Driving(
            maps,
            found.stride,
            found.poses.fps,
            found.source_fps,
            found.clip,
            poses=poses,
            facts={**poses.metadata, "presence": presence.as_dict()},
        )


@dataclass(frozen=True)
class FoundPoses:
    """Driving poses before alignment, and properties of their clip."""

    poses: PoseSequence
    stride: int
    """Frames of the clip per pose."""
    source_fps: float
    """Frame rate of the clip."""
    clip: VideoInfo | None
    """Properties of the clip; None if poses were given instead of a clip."""


def read_poses(
    driving: str | os.PathLike[str] | PoseSequence,
    estimator: Callable[[], Estimator],
    settings: CaseSettings,
    *,
    progress: Progress | None = None,
    cache: PoseCache | None = None,
) -> FoundPoses:
    """Read the driving poses from a file, or estimate them while the clip is decoded.

    Args:
        driving: a video, a ``.npz`` of poses, or the poses.
        estimator: returns the estimator; only called for videos.
        settings: settings of the case.
        progress: wraps the iteration over frames with a progress bar.
        cache: keeps the poses of videos.

    Raises:
        FileNotFoundError, VideoError: the clip is missing or cannot be read.
        PoseError: no person is found, or the file holds no poses.
    """
    name = "the driving poses" if isinstance(driving, PoseSequence) else os.fspath(driving)
    if not isinstance(driving, PoseSequence) and Path(driving).suffix.lower() in POSE_SUFFIXES:
        driving = PoseSequence.load(driving)
    try:
        if isinstance(driving, PoseSequence):
            stride = released_stride(settings.sample_stride, driving.fps)
            poses = driving[slice(0, None, stride)][slice(0, settings.max_frames)]
            poses = follow_person(replace(poses, fps=driving.fps / stride), settings.person)
            return FoundPoses(poses, stride, driving.fps, None)
        clip = probe(driving)
        stride = released_stride(settings.sample_stride, clip.fps)
        check_shows_people(clip)

        def estimate() -> PoseSequence:
            frames = read_frames(driving, stride=stride, max_frames=settings.max_frames, info=clip)
            total = num_driving_frames(clip, settings)
            return estimator().frames(
                frames, fps=float(clip.fps / stride), person=settings.person, total=total, progress=progress
            )

        wanted = {"stride": stride, "max_frames": settings.max_frames, "person": settings.person}
        poses = estimate() if cache is None else cache(Path(driving), wanted, estimate)
        return FoundPoses(poses, stride, float(clip.fps), clip)
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from error


def check_shows_people(clip: VideoInfo) -> None:
    """Raise `VideoError` for a clip that begins with drawn skeletons, in which no estimator finds anyone."""
    first = list(read_frames(clip.path, max_frames=_FRAMES_LOOKED_AT, info=clip))
    if first and all(is_skeleton_drawing(frame) for frame in first):
        raise VideoError(
            f"{clip.path} shows drawn skeletons, not a person. Give the clip that they were drawn of, or its "
            "poses (.npz, or .json of OpenPose or COCO-WholeBody)"
        )


def fit_to_reference(driving: PoseSequence, reference: PoseSequence, settings: CaseSettings) -> PoseSequence:
    """Align driving poses with the reference's pose and prepend the latter as frame 0.

    Raises:
        PoseError: too few joints are found for the alignment; the message suggests another `align`.
    """
    if settings.align != "released":
        driving = bridge_gaps(driving, settings.bridge_gaps)
    driving = smooth_pose(driving, window=settings.smooth)
    try:
        aligned = align_pose(driving, reference, mode=settings.align)
    except PoseError as error:
        remedy = "; align: robust needs fewer joints" if settings.align == "released" else ""
        raise PoseError(f"the driving poses cannot be aligned with the reference: {error}{remedy}") from error
    both = concatenate([reference, aligned])
    return replace(both, fps=driving.fps, metadata={**reference.metadata, **aligned.metadata})


class SkeletonMaps:
    """Skeletons drawn as maps on demand; ``maps([3, 4])`` is uint8 ``2 x H x W x 3``.

    Drawn maps are cached up to a budget (256 MB, about 150 frames at 576 x 1024) and redrawn beyond it, so
    that a long clip does not fill the memory.
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

    def resized(self, height: int, width: int) -> SkeletonMaps:
        """Return maps of the same poses at another size in pixels."""
        return SkeletonMaps(
            self._poses, height, width, mode=self._mode, canvas_short_side=self._canvas_short_side
        )

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Draw one map, uint8 ``H x W x 3``."""
        if frame in self._kept:
            return self._kept[frame]
        assert self._poses.is_present is not None
        drawn = self._painter.draw(
            self._poses.points[frame], self._poses.scores[frame], self._poses.is_present[frame]
        )
        if len(self._kept) < self._max_kept:
            self._kept[frame] = drawn
        return drawn
