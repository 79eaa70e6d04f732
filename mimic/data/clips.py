"""Where a dataset's frames and poses come from: the clips of a prepared folder, or any others of this shape.

Legend: F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pose import PoseSequence


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before a frame of it is read."""

    name: str
    video: str
    """Clips of one video have the same."""
    first_frame: int
    """Its place in the video."""
    num_frames: int
    fps: float
    height: int
    width: int


class ClipSource(Protocol):
    """Clips by their number. Each worker has a copy, so nothing that is open may be in it when it is copied."""

    infos: Sequence[ClipInfo]

    def poses(self, clip: int) -> PoseSequence | None:
        """The poses of all frames of a clip, one person; None where they come with the frames alone."""

    def load(
        self, clip: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[NDArray[np.uint8]], PoseSequence]:
        """Frames of a clip, by their place in the clip, in the order asked for: uint8 ``H x W x 3`` RGB each,
        and their poses. `rng` is for sources that make their poses as they go."""
