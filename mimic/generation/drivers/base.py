"""What a driver does: it reads a driving clip, checks it, fits it to the reference and draws the maps of it.

Legend: H height, W width. Pictures and maps are RGB uint8.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.families.base import AnimationPipeline
from mimic.models.densepose_model import DensePoseModel
from mimic.progress import Progress
from mimic.video import VideoInfo, released_stride
from pose import PoseSequence
from pose.estimators import Estimator

if TYPE_CHECKING:
    from mimic.generation.reference import Reference

Picture = NDArray[np.uint8]


class DrivingMaps(Protocol):
    """Maps drawn when they are asked for; number 0 belongs to the reference."""

    def __len__(self) -> int: ...

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        """``maps([3, 4])`` is ``2 x H x W x 3``."""

    def draw(self, frame: int) -> Picture:
        """One map, ``H x W x 3``."""

    def resized(self, height: int, width: int) -> DrivingMaps:
        """The same maps at another size."""


@dataclass(frozen=True)
class Driving:
    """What drives, fitted to the reference, and the clip it is from."""

    maps: DrivingMaps
    stride: int
    """Frames of the clip per driving frame."""
    fps: float
    """Driving frames per second."""
    source_fps: float
    """Frame rate of the clip."""
    clip: VideoInfo | None
    """None where no clip was read."""
    poses: PoseSequence | None = None
    """The poses that the model is shown, frame 0 the reference's own; None where no skeleton drives."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the run's JSON says of them."""

    @property
    def num_frames(self) -> int:
        """Driving frames: the maps without the reference's."""
        return len(self.maps) - 1

    @property
    def source_seconds(self) -> float:
        """Seconds of the clip covered by the driving frames."""
        return self.num_frames * self.stride / self.source_fps

    def output_fps(self, settings: CaseSettings) -> Fraction:
        """Frames per second of the result: as set, or the driving frames' own."""
        return Fraction(settings.fps if settings.fps is not None else self.fps).limit_denominator(1001)


@dataclass(frozen=True)
class DriverTools:
    """Models that drivers use, each loaded when it is first asked for."""

    estimator: Callable[[], Estimator]
    densepose_model: Callable[[], DensePoseModel | None] = lambda: None


class Driver(ABC):
    """One way to move a person. Nothing here needs the pipeline's weights but `read`."""

    def __init__(self, tools: DriverTools) -> None:
        self.tools = tools

    @abstractmethod
    def check_reference(self, picture: Picture, settings: CaseSettings, *, name: str) -> None:
        """Raise `ValueError` where this picture cannot be moved; a second at most."""

    @abstractmethod
    def check_driving(self, driving: Path | PoseSequence, settings: CaseSettings) -> None:
        """Raise `ValueError` or `OSError` where this cannot drive; a look at the first frame at most."""

    @abstractmethod
    def reference_pose(
        self, picture: Picture, height: int, width: int, settings: CaseSettings, *, name: str
    ) -> PoseSequence | None:
        """The pose of the reference at the result's size, F = 1; None where no skeleton drives."""

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

        Raises:
            FileNotFoundError, VideoError: there is no clip that can be read.
            ValueError: it cannot drive this reference.
        """


def num_driving_frames(clip: VideoInfo, settings: CaseSettings) -> int:
    """How many frames of a clip are used."""
    num_frames = -(-clip.num_frames // released_stride(settings.sample_stride, clip.fps))
    return min(num_frames, settings.max_frames or num_frames)
