"""References and driving maps in any usual form, as all families take them."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image
from torch import Tensor

from mimic.data.pose_maps import MapDrawer, PoseMaps, as_pose_maps, as_pose_tensor, num_pose_frames
from mimic.data.transforms import Pictures, as_pictures


@dataclass(frozen=True)
class Inputs:
    """References, driving maps and noise, and what they say of the video."""

    pictures: list[PIL.Image.Image | Tensor]
    """One reference for each video."""
    pose_maps: list[MapDrawer]
    """One drawer for each video, or one for all; empty for no pose."""
    latents: Tensor | None = None
    """Unit normal noise ``B x f x C x h x w``; None: to be drawn."""
    height: int | None = None
    """As given, or else that of the maps; None where neither says it."""
    width: int | None = None
    """Likewise."""
    num_frames: int | None = None
    """Frames of the maps, where they say it."""


def read_inputs(
    image: Pictures,
    image_pose: PoseMaps | None,
    *,
    num_videos_per_prompt: int = 1,
    latents: Tensor | None = None,
    size: tuple[int | None, int | None] = (None, None),
) -> Inputs:
    """Repeat references and maps for each of their videos; take size and length from the maps.

    Args:
        size: height and width as given.

    Raises:
        ValueError: an input has no known form.
    """
    pictures = [picture for picture in as_pictures(image) for _ in range(num_videos_per_prompt)]
    pose_maps = [] if image_pose is None else as_pose_maps(image_pose)
    if len(pose_maps) > 1:
        pose_maps = [maps for maps in pose_maps for _ in range(num_videos_per_prompt)]
    height, width = size
    if pose_maps and (height is None or width is None):
        drawn = as_pose_tensor(pose_maps[0]([0]))
        height = drawn.shape[-2] if height is None else height
        width = drawn.shape[-1] if width is None else width
    return Inputs(pictures, pose_maps, latents, height, width, num_pose_frames(image_pose))
