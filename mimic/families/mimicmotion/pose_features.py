"""PoseNet's output, window by window: made when needed, kept while a budget lasts.

Legend: B batch, F frames, C the UNet's first width, H height, W width; h, w of latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimic.data.transforms import pose_maps_to_tensor

PoseMaps = Callable[[list[int]], Tensor]
"""Draws the pose maps of the given frames: ``F x 3 x H x W`` in [-1, 1], RGB, or uint8 ``F x H x W x 3``."""

_FRAMES_AT_A_TIME = 8  # fixed, so that the numbers do not depend on what memory there is


def as_pose_maps(image_pose: Any) -> list[PoseMaps]:
    """Whatever the caller gave as poses, one drawer for each video, or one for all.

    Args:
        image_pose: ``F x 3 x H x W`` or ``B x F x 3 x H x W`` in [-1, 1]; uint8 ``F x H x W x 3`` as
            `draw_pose` makes them; a callable from frame indices to either; or a list of such.
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
        "callable that draws the maps of the frames it is asked for."
    )


def num_pose_frames(image_pose: Any) -> int | None:
    """How many frames the poses are for, where they tell."""
    if isinstance(image_pose, list | tuple):
        return num_pose_frames(image_pose[0])
    if isinstance(image_pose, Tensor | np.ndarray):
        return image_pose.shape[-4]
    return len(image_pose) if hasattr(image_pose, "__len__") else None


class DrawnPoseMaps:
    """Pose maps that are all there already."""

    def __init__(self, maps: Tensor | np.ndarray) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __call__(self, frames: list[int]) -> Tensor:
        return as_pose_tensor(self._maps[frames])


def as_pose_tensor(maps: Tensor | np.ndarray) -> Tensor:
    """Maps as a drawer returned them, as ``F x 3 x H x W`` in [-1, 1]."""
    if isinstance(maps, np.ndarray):
        return pose_maps_to_tensor(maps) if maps.dtype == np.uint8 else torch.from_numpy(maps)
    return maps


class PoseFeatures:
    """PoseNet's features of windows of frames.

    Features are 6 MB a frame for 576 x 1024 in float16, too much to keep for a long clip and cheap to make
    again. The first windows that fit the budget are kept (windows come round in the same order at every step,
    so the latest used would be the one not needed next); the others are made at each step.
    """

    def __init__(
        self,
        pose_net: Any,
        pose_maps: Sequence[PoseMaps],
        *,
        device: torch.device,
        dtype: torch.dtype,
        budget_bytes: int,
    ) -> None:
        self.kept_bytes = 0
        self.num_made = 0
        """Windows computed so far."""
        self._pose_net = pose_net
        self._pose_maps = pose_maps
        self._device, self._dtype = device, dtype
        self._budget_bytes = budget_bytes
        self._kept: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, frames: list[int]) -> Tensor:
        """``B x F x C x h x w`` for the given frames; B is 1 where one clip of poses serves all videos."""
        key = tuple(frames)
        if key in self._kept:
            return self._kept[key]
        features = torch.stack([self._of(maps, frames) for maps in self._pose_maps])
        self.num_made += 1
        if self.kept_bytes + features.nbytes <= self._budget_bytes:
            self._kept[key] = features
            self.kept_bytes += features.nbytes
        return features

    def _of(self, maps: PoseMaps, frames: list[int]) -> Tensor:
        parts = [frames[i : i + _FRAMES_AT_A_TIME] for i in range(0, len(frames), _FRAMES_AT_A_TIME)]
        drawn = (as_pose_tensor(maps(part)).to(self._device, self._dtype) for part in parts)
        return torch.cat([self._pose_net(pixels) for pixels in drawn])
