"""Interface of drivers: check and read a driving clip, fit it to the reference, draw its maps.

Legend: H height, W width. Pictures and maps are RGB uint8.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.families.base import AnimationPipeline
from mimic.generation.pose_cache import PoseCache
from mimic.models.densepose_model import DensePoseModel
from mimic.progress import Progress
from mimic.video import VideoError, VideoInfo, released_stride
from pose import PoseSequence
from pose.estimators import Estimator
from pose.video.timing import limited

if TYPE_CHECKING:
    from mimic.generation.reference import Reference

Picture = NDArray[np.uint8]

RELEASED_STRIDE = 2
SLOW_CLIP_FPS = 20
"""Clips below this rate are used frame by frame unless `sample_stride` says otherwise."""

POSE_SUFFIXES = (".npz", ".json")
"""Files of poses, written by `mimic pose` or by other programs, in place of a driving clip."""


class DrivingMaps(Protocol):
    """Driving maps, drawn on demand; map 0 belongs to the reference."""

    def __len__(self) -> int: ...

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        """Return the maps of the given frames; ``maps([3, 4])`` is uint8 ``2 x H x W x 3``."""

    def draw(self, frame: int) -> Picture:
        """Draw one map, uint8 ``H x W x 3``."""

    def resized(self, height: int, width: int) -> DrivingMaps:
        """Return the same maps at another size in pixels."""


@dataclass(frozen=True)
class Driving:
    """Driving maps fitted to the reference, and properties of their clip."""

    maps: DrivingMaps
    stride: int
    """Frames of the clip per driving frame."""
    fps: float
    """Driving frames per second."""
    source_fps: float
    """Frame rate of the clip."""
    clip: VideoInfo | None
    """Properties of the clip; None if poses were given instead of a clip."""
    poses: PoseSequence | None = None
    """Poses passed to the model, frame 0 the reference's; None if the model is not driven by skeletons."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the JSON report about the driving clip."""
    first_frame: int = 0
    """Number of the clip's frame that is the first driving frame."""
    part_note: str | None = None
    """What of `start` and `end` could not be followed; see `UsedFrames.note`."""
    verdict: Mapping[str, Any] | None = None
    """What was poor about the driving poses, for the JSON report; None if it is not judged."""
    marks: Mapping[int, str] = field(default_factory=dict)
    """Labels of faulty driving frames, numbered from 0, for the side-by-side video."""

    shows_clip: bool = True
    """Whether the clip shows something else than the maps."""

    @property
    def num_frames(self) -> int:
        """Number of driving frames: all maps except the reference's."""
        return len(self.maps) - 1

    @property
    def start_s(self) -> float:
        """Time stamp of the first driving frame in the clip, in seconds."""
        return (self.clip.start_s if self.clip is not None else 0.0) + self.first_frame / self.source_fps

    @property
    def source_seconds(self) -> float:
        """Duration in seconds of the part of the clip that the driving frames cover."""
        return self.num_frames * self.stride / self.source_fps

    @property
    def part_s(self) -> tuple[float, float]:
        """When in the clip the first driving frame begins and the last one ends, in seconds."""
        last = self.first_frame + (self.num_frames - 1) * self.stride
        return self.first_frame / self.source_fps, (last + 1) / self.source_fps

    def output_fps(self, settings: CaseSettings) -> Fraction:
        """Return the frames per second of the result: as set, else the rate of the driving frames."""
        return limited(settings.fps if settings.fps is not None else self.fps)


@dataclass(frozen=True)
class DriverTools:
    """Models used by drivers, each loaded on first use, and the cache of poses that the estimator found."""

    estimator: Callable[[], Estimator]
    densepose_model: Callable[[], DensePoseModel | None] = lambda: None
    pose_cache: PoseCache | None = None


class Driver(ABC):
    """Base of drivers. Only `read` needs the pipeline."""

    takes_poses: ClassVar[bool]
    """Whether poses, with the reference's own, can drive in place of a clip."""

    def __init__(self, tools: DriverTools) -> None:
        self.tools = tools

    @abstractmethod
    def check_reference(self, picture: Picture, settings: CaseSettings, *, name: str) -> None:
        """Raise `ValueError` if the picture cannot be animated; takes a second at most."""

    @abstractmethod
    def check_driving(self, driving: Path | PoseSequence, settings: CaseSettings) -> None:
        """Raise `ValueError` or `OSError` if the clip cannot drive; reads a few frames at most."""

    @abstractmethod
    def reference_pose(
        self, picture: Picture, height: int, width: int, settings: CaseSettings, *, name: str
    ) -> PoseSequence | None:
        """Estimate the pose of the reference at the result's size, F = 1; None for drivers without
        skeletons."""

    @abstractmethod
    def read(
        self,
        driving: str | os.PathLike[str] | PoseSequence,
        reference: Reference,
        pipeline: AnimationPipeline[Any, Any],
        settings: CaseSettings,
        *,
        progress: Progress | None = None,
    ) -> Driving:
        """Read the driving clip and fit it to the reference.

        Args:
            driving: a video, a ``.npz`` of poses, or the poses.
            reference: the reference at the result's size.
            pipeline: the pipeline that will take the maps.
            settings: settings of the case.
            progress: wraps the iteration over frames with a progress bar.

        Raises:
            FileNotFoundError, VideoError: the clip is missing or cannot be read.
            ValueError: it cannot drive this reference.
        """


@dataclass(frozen=True)
class UsedFrames:
    """Frames of a driving clip that settings choose: every `stride`-th from `first` on, `count` of them."""

    first: int
    stride: int
    count: int
    note: str | None = None
    """What of `start` and `end` could not be followed, as a sentence; None if they could."""

    def limit(self, settings: CaseSettings) -> int | None:
        """Return the number of frames to stop at; None reads to the clip's end, where files of some codecs
        have more frames than their index."""
        return settings.max_frames if settings.end is None else self.count

    @property
    def slice(self) -> slice:
        """The same as a slice of the clip's frames."""
        return slice(self.first, self.first + (self.count - 1) * self.stride + 1, self.stride)


def used_frames(num_frames: int, fps: float | Fraction, settings: CaseSettings, *, name: str) -> UsedFrames:
    """Return which frames of a clip `start`, `end`, `sample_stride` and `max_frames` choose.

    Args:
        num_frames: frames of the clip.
        fps: its frame rate.
        settings: settings of the case.
        name: of the clip, for messages.

    Raises:
        VideoError: the clip has no frame between `start` and `end`.
    """
    first, last = (_frame_at(time, fps) for time in (settings.start, settings.end))
    last = num_frames if settings.end is None else min(last, num_frames)
    seconds = num_frames / float(fps)
    if first >= last and settings.start + (settings.end or 0):
        part = f"after start {settings.start:g} s"
        if settings.end is not None:
            part = f"between start {settings.start:g} s and end {settings.end:g} s"
        raise VideoError(f"{name} lasts {seconds:.2f} s and has no frame {part}; choose a part of it")
    stride = released_stride(chosen_stride(fps, settings), fps)
    count = -(-(last - first) // stride)
    note = None
    if settings.end is not None and settings.end > seconds + 1 / float(fps):  # a frame more is rounding
        note = (
            f"{name} ends at {round(seconds, 2)} s; end {settings.end:g} s is later, so it is used to its end"
        )
    return UsedFrames(first, stride, min(count, settings.max_frames or count), note)


def chosen_stride(fps: float | Fraction, settings: CaseSettings) -> int:
    """Return `sample_stride` as set; else 2 as released, and 1 for slow clips, whose motion would be lost."""
    if settings.sample_stride is not None:
        return settings.sample_stride
    return 1 if fps < SLOW_CLIP_FPS and settings.compat != "released" else RELEASED_STRIDE


def _frame_at(time: float | None, fps: float | Fraction) -> int:
    """Return the number of the first frame at or after a time in seconds."""
    return math.ceil((time or 0.0) * float(fps) - 1e-6)
