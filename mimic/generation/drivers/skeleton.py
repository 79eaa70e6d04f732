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
    UsedFrames,
    used_frames,
)
from mimic.generation.drivers.sight import check_shows_somebody, estimator_for
from mimic.generation.pose_cache import PoseCache
from mimic.generation.reference import Reference
from mimic.generation.verdict import judge_driving
from mimic.progress import Progress
from mimic.video import VideoInfo, probe, read_frames
from pose import PoseError, PoseSequence, align_pose, follow_person, smooth_pose
from pose.adjust import Adjustment, adjust_pose
from pose.draw import RELEASED_CANVAS_SHORT_SIDE, DrawMode, PosePainter
from pose.estimators import Estimator
from pose.fit import FitReport, judge_fit
from pose.gaps import bridge_gaps
from pose.identity import keep_identities
from pose.missing import fill_missing
from pose.people import depth_orders, fit_people, people_in_order
from pose.presence import summarise_presence
from pose.types import concatenate

log = logging.getLogger("mimic")

MAX_KEPT_MAPS_MB, MAX_KEPT_MAPS = 256, 500

# Estimators are reliable for people from about this size on; smaller references are enlarged first.
MIN_ESTIMATION_SIDE = 384


class SkeletonDriver(Driver):
    """Drives with the skeletons of one person, or of all persons of a clip."""

    takes_poses = True

    def check_reference(self, picture: Picture, settings: CaseSettings, *, name: str) -> None:
        """Raise `PoseError` if no person is found in the picture."""
        height, width = picture.shape[:2]
        self.reference_pose(picture, height, width, settings, name=name)

    def check_driving(self, driving: Path | PoseSequence, settings: CaseSettings) -> None:
        """Raise `PoseError` if nobody is seen, or drawn skeletons cannot be read."""
        if isinstance(driving, PoseSequence) or driving.suffix.lower() in POSE_SUFFIXES:
            read_poses(driving, self.tools.estimator, settings)
        else:
            check_shows_somebody(driving, self.tools.estimator, settings)

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
            return follow_person(found, _reference_person(settings))
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
        fitted, target = fit_poses(found.poses, reference.pose, settings)
        fits = _fit_reports(fitted, target)
        verdict = judge_driving(
            fitted,
            fits,
            reference=target,
            alignment=fitted.metadata["alignment"],
            bridged=_bridged_seconds(settings),
        )
        for sentence in verdict.sentences:
            log.info("look at the result: %s", sentence)
        poses = _with_reference(fitted, target, settings)
        maps = SkeletonMaps(
            poses,
            reference.height,
            reference.width,
            mode=settings.draw,
            canvas_short_side=pipeline.generation_defaults.get("canvas_short_side"),
            in_depth=settings.align in ("robust", "limbs"),
        )
        return Driving(
            maps,
            found.used.stride,
            found.poses.fps,
            found.source_fps,
            found.clip,
            poses=poses,
            facts={**poses.metadata, "presence": presence.as_dict(), "fit": [fit.as_dict() for fit in fits]},
            verdict=verdict.as_dict(),
            marks=verdict.marks,
            first_frame=found.used.first,
            part_note=found.used.note,
        )


def _reference_person(settings: CaseSettings) -> str | int:
    """The person of the picture; by default all for `person: all`, each of whom gets their own fit."""
    if settings.reference_person is not None:
        return settings.reference_person
    return "all" if settings.person == "all" and settings.align in ("robust", "limbs") else "largest"


@dataclass(frozen=True)
class FoundPoses:
    """Driving poses before alignment, and properties of their clip."""

    poses: PoseSequence
    used: UsedFrames
    """Frames of the clip that the poses belong to."""
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
        driving: a video of people or of drawn skeletons, a file of poses (``.npz``, ``.json``), or the poses.
        estimator: returns the estimator; only called for videos of people.
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
            used = used_frames(len(driving), driving.fps, settings, name=name)
            poses = replace(driving[used.slice], fps=driving.fps / used.stride)
            return FoundPoses(follow_person(poses, settings.person), used, driving.fps, None)
        clip = probe(driving)
        used = used_frames(clip.num_frames, clip.fps, settings, name=name)

        limit = used.limit(settings)

        def estimate() -> PoseSequence:
            frames = read_frames(
                driving, first_frame=used.first, stride=used.stride, max_frames=limit, info=clip
            )
            return estimator_for(clip, estimator).frames(
                frames,
                fps=float(clip.fps / used.stride),
                person=settings.person,
                total=used.count,
                progress=progress,
            )

        wanted = {"first": used.first, "stride": used.stride, "limit": limit, "person": settings.person}
        poses = estimate() if cache is None else cache(Path(driving), wanted, estimate)
        return FoundPoses(poses, used, float(clip.fps), clip)
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from error


def fit_to_reference(driving: PoseSequence, reference: PoseSequence, settings: CaseSettings) -> PoseSequence:
    """Align driving poses with the reference's pose and prepend the latter as frame 0.

    Raises:
        PoseError: too few joints are found for the alignment (the message suggests another `align`), people
            cannot be paired, or somebody is missing and `missing` is `fail`.
    """
    fitted, reference = fit_poses(driving, reference, settings)
    return _with_reference(fitted, reference, settings)


def fit_poses(
    driving: PoseSequence, reference: PoseSequence, settings: CaseSettings
) -> tuple[PoseSequence, PoseSequence]:
    """Align driving poses with the reference's.

    Returns:
        the fitted driving poses, and the reference's with its people in the same order.

    Raises:
        PoseError: as `fit_to_reference`.
    """
    is_own = settings.person == "all" and settings.align in ("robust", "limbs") and reference.num_people > 1
    if is_own:
        driving = keep_identities(driving)
    driving = bridge_gaps(driving, _bridged_seconds(settings))
    driving = smooth_pose(driving, window=settings.smooth)
    try:
        if is_own:
            aligned = fit_people(
                driving, reference, mode=settings.align, anchor=settings.anchor, pairs=settings.pairs
            )
        else:
            aligned = align_pose(driving, reference, mode=settings.align, anchor=settings.anchor)
    except PoseError as error:
        remedy = "; align: robust needs fewer joints" if settings.align == "released" else ""
        raise PoseError(f"the driving poses cannot be aligned with the reference: {error}{remedy}") from error
    if is_own:
        bodies = [fit["reference"] for fit in aligned.metadata["alignment"]["people"]]
        others = [person for person in range(reference.num_people) if person not in bodies]
        reference = people_in_order(reference, bodies + others)
    if settings.adjust is not None:
        aligned = adjust_pose(aligned, Adjustment.from_dict(settings.adjust))
    return aligned, reference


def _with_reference(fitted: PoseSequence, reference: PoseSequence, settings: CaseSettings) -> PoseSequence:
    filled = fill_missing(fitted, settings.missing, longer_than=_bridged_seconds(settings))
    both = concatenate([reference, filled])
    return replace(both, fps=fitted.fps, metadata={**reference.metadata, **fitted.metadata})


def _bridged_seconds(settings: CaseSettings) -> float:
    return settings.bridge_gaps if settings.align != "released" else 0.0


def _fit_reports(fitted: PoseSequence, reference: PoseSequence) -> list[FitReport]:
    """The report of each person who is fitted to a body; none where one fit moves several people."""
    if fitted.num_people > reference.num_people:
        return []
    return [judge_fit(fitted, reference, person=person) for person in range(fitted.num_people)]


class SkeletonMaps:
    """Skeletons drawn as maps on demand; ``maps([3, 4])`` is uint8 ``2 x H x W x 3``.

    Drawn maps are cached up to a budget (500 frames and 256 MB, about 150 frames at 576 x 1024) and redrawn
    beyond it, so that a long clip does not fill the memory.
    """

    def __init__(
        self,
        poses: PoseSequence,
        height: int,
        width: int,
        *,
        mode: DrawMode = "confidence",
        canvas_short_side: int | None = None,
        in_depth: bool = False,
    ) -> None:
        """
        Args:
            in_depth: draw people from back to front, in place of in their order.
        """
        canvas_short_side = canvas_short_side or RELEASED_CANVAS_SHORT_SIDE
        self._painter = PosePainter(height, width, mode=mode, canvas_short_side=canvas_short_side)
        self._poses, self._mode, self._canvas_short_side = poses, mode, canvas_short_side
        self._orders = depth_orders(poses) if in_depth and poses.num_people > 1 else None
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._max_kept = min(MAX_KEPT_MAPS, MAX_KEPT_MAPS_MB * 2**20 // (3 * height * width))

    def __len__(self) -> int:
        return len(self._poses)

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        return np.stack([self.draw(frame) for frame in frames])

    def resized(self, height: int, width: int) -> SkeletonMaps:
        """Return maps of the same poses at another size in pixels."""
        return SkeletonMaps(
            self._poses,
            height,
            width,
            mode=self._mode,
            canvas_short_side=self._canvas_short_side,
            in_depth=self._orders is not None,
        )

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Draw one map, uint8 ``H x W x 3``."""
        if frame in self._kept:
            return self._kept[frame]
        assert self._poses.is_present is not None
        order = slice(None) if self._orders is None else self._orders[frame]
        drawn = self._painter.draw(
            self._poses.points[frame][order],
            self._poses.scores[frame][order],
            self._poses.is_present[frame][order],
        )
        if len(self._kept) < self._max_kept:
            self._kept[frame] = drawn
        return drawn
