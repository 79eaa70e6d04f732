"""Forms of pose maps that a caller may give: drawn maps, or a callable that draws them on demand.

Legend: B batch, F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mimic.data.transforms import pose_maps_to_tensor

MapDrawer = Callable[[list[int]], Tensor | np.ndarray]
"""Draws the pose maps of the given frames: ``F x 3 x H x W`` in [-1, 1], RGB, or uint8 ``F x H x W x 3``."""

PoseMaps: TypeAlias = "Tensor | np.ndarray | MapDrawer | Sequence[PoseMaps]"
"""Pose maps in the forms that `as_pose_maps` takes."""


def as_pose_maps(image_pose: PoseMaps) -> list[MapDrawer]:
    """Convert pose maps of any supported form to one drawing function for each video, or one for all.

    Args:
        image_pose: float ``F x 3 x H x W`` or ``B x F x 3 x H x W`` in [-1, 1]; uint8 ``F x H x W x 3`` as
            returned by `draw_pose`; a callable that takes frame indices and returns either; or a list of
            these.

    Raises:
        ValueError: the form is not supported.
    """
    if isinstance(image_pose, list | tuple):
        return [maps for item in image_pose for maps in as_pose_maps(item)]
    if isinstance(image_pose, Tensor | np.ndarray) and image_pose.ndim in {4, 5}:
        videos = list(image_pose) if image_pose.ndim == 5 else [image_pose]
        return [DrawnPoseMaps(video) for video in videos]
    if callable(image_pose) and not isinstance(image_pose, type):
        return [image_pose]
    shape = f" of shape {tuple(image_pose.shape)}" if hasattr(image_pose, "shape") else ""
    raise ValueError(
        f"image_pose is a {type(image_pose).__name__}{shape}; give a tensor F x 3 x H x W in [-1, 1] or a "
        "callable that takes frame indices and draws their maps."
    )


def num_pose_frames(image_pose: PoseMaps | None) -> int | None:
    """Return the number of frames of pose maps, for a list that of the first entry; None if it is unknown."""
    if isinstance(image_pose, list | tuple):
        return num_pose_frames(image_pose[0])
    if isinstance(image_pose, Tensor | np.ndarray):
        return image_pose.shape[-4]
    return len(image_pose) if isinstance(image_pose, Sized) else None


class DrawnPoseMaps:
    """Pose maps that are already drawn."""

    def __init__(self, maps: Tensor | np.ndarray) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __call__(self, frames: list[int]) -> Tensor:
        return as_pose_tensor(self._maps[frames])


def as_pose_tensor(maps: Tensor | np.ndarray) -> Tensor:
    """Convert maps returned by a drawing function to ``F x 3 x H x W`` in [-1, 1]."""
    if isinstance(maps, np.ndarray):
        return pose_maps_to_tensor(maps) if maps.dtype == np.uint8 else torch.from_numpy(maps)
    return maps
