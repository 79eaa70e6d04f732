"""Read references and driving maps from any supported form."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image
from torch import Tensor

from mimic.data.pose_maps import MapDrawer, PoseMaps, as_pose_maps, as_pose_tensor, num_pose_frames
from mimic.data.transforms import Pictures, as_pictures
from pose.text import shown


@dataclass(frozen=True)
class Inputs:
    """References, driving maps and noise, and the size and length they give the video."""

    pictures: list[PIL.Image.Image | Tensor]
    """One reference for each video."""
    pose_maps: list[MapDrawer]
    """One function that draws maps for each video, or one for all videos; empty without poses."""
    latents: Tensor | None = None
    """Unit normal noise ``B x f x C x h x w``; None if it is still to be drawn."""
    height: int | None = None
    """Height of the video in pixels, as given or else that of the maps; None if neither gives it."""
    width: int | None = None
    """Likewise."""
    num_frames: int | None = None
    """Number of maps of the shortest clip; None if the maps are callables of unknown length."""


def read_inputs(
    image: Pictures,
    image_pose: PoseMaps | None,
    *,
    num_videos_per_prompt: int = 1,
    latents: Tensor | None = None,
    size: tuple[int | None, int | None] = (None, None),
) -> Inputs:
    """Read references and maps, repeat them for each of their videos, and take size and length from the maps.

    Args:
        image, image_pose, num_videos_per_prompt, latents: as in `AnimationPipeline.__call__`.
        size: height and width in pixels as given by the caller; None takes those of the maps.

    Raises:
        ValueError: an input has an unsupported form, or the number of videos is below 1.
    """
    if not isinstance(num_videos_per_prompt, int) or num_videos_per_prompt < 1:
        raise ValueError(
            f"num_videos_per_prompt is {shown(num_videos_per_prompt)}; expected a whole number from 1 on."
        )
    if latents is not None and not isinstance(latents, Tensor):
        raise ValueError(f"latents are a {type(latents).__name__}; expected a tensor, B x f x C x h x w.")
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
