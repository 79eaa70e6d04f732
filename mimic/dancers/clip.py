"""The result of rendering: pictures, exact poses and part maps of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.types import PoseSequence


@dataclass(frozen=True)
class RenderedClip:
    """A rendered clip.

    Args:
        frames: uint8 ``F x H x W x 3``, RGB.
        poses: the exact poses, P = 1.
        figure_mask: bool ``F x H x W``, true where a pixel shows the figure.
        part_ids: uint8 ``F x H x W``, body part shown by each pixel (`PART_NAMES`), 0 for background.
        densepose_ids: uint8 ``F x H x W``, the same with DensePose's numbering (`DENSEPOSE_NAMES`).
    """

    frames: NDArray[np.uint8]
    poses: PoseSequence
    figure_mask: NDArray[np.bool_]
    part_ids: NDArray[np.uint8]
    densepose_ids: NDArray[np.uint8]
