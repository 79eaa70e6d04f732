"""What was a family called with? References and poses in any usual form, as all families take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import PIL.Image
from torch import Tensor

from mimic.data.pose_maps import PoseMaps, as_pose_maps, as_pose_tensor, num_pose_frames
from mimic.data.transforms import as_pictures


@dataclass(frozen=True)
class Inputs:
    """References and poses, and what they tell of the video."""

    pictures: list[PIL.Image.Image | Tensor]
    """One reference for each video."""
    pose_maps: list[PoseMaps]
    """One drawer for each video, or one for all; empty for no pose."""
    height: int | None
    """As given, or else that of the maps; None where neither tells it."""
    width: int | None
    """Likewise."""
    num_frames: int


def read_inputs(
    image: Any,
    image_pose: Any,
    *,
    height: int | None,
    width: int | None,
    num_frames: int | None,
    num_videos_per_prompt: int,
) -> Inputs:
    """Repeat references and poses for each of their videos, and learn size and length from the maps.

    Raises:
        ValueError: an input has no form that is known, or nothing tells the number of frames.
    """
    pictures = [picture for picture in as_pictures(image) for _ in range(num_videos_per_prompt)]
    pose_maps = [] if image_pose is None else as_pose_maps(image_pose)
    if len(pose_maps) > 1:
        pose_maps = [maps for maps in pose_maps for _ in range(num_videos_per_prompt)]
    if pose_maps and (height is None or width is None):
        drawn = as_pose_tensor(pose_maps[0]([0]))
        height = drawn.shape[-2] if height is None else height
        width = drawn.shape[-1] if width is None else width
    if num_frames is None:
        num_frames = num_pose_frames(image_pose)
    if num_frames is None:
        raise ValueError("num_frames is not given and image_pose does not tell it; give num_frames.")
    return Inputs(pictures, pose_maps, height, width, num_frames)
