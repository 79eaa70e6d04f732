"""Convert pictures and pose maps to inputs, and frames to outputs: sizes, crops, value ranges.

Legend: F frames, H height, W width. Pictures are RGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]

Pictures: TypeAlias = "PIL.Image.Image | Image | Tensor | Sequence[Pictures]"
"""Pictures in the forms that `as_pictures` takes."""


@dataclass(frozen=True)
class Compatibility:
    """Roundings of the released script that lose precision; the defaults round correctly."""

    truncate_reference: Literal["float16", "float32"] | None = None
    """Convert the prepared reference to [-1, 1] and back to uint8 by truncation, in this precision (the
    released script's default dtype, float16 on a GPU), which lowers some grey levels by one."""
    truncate_frames: bool = False
    """Truncate frames to uint8 instead of rounding, which darkens a video by half a grey level."""

    @classmethod
    def released(cls, dtype: torch.dtype = torch.float16) -> Compatibility:
        """Return the roundings of the released `inference.py` when it runs in `dtype`."""
        return cls("float16" if dtype == torch.float16 else "float32", truncate_frames=True)


def target_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Compute (height, width) of the video for a reference of this size, as the released `preprocess` does.

    The short side is `resolution`, the long one ``floor(resolution / (9/16) / 64) * 64``; portrait if the
    reference is portrait, else landscape.

    Args:
        height, width: of the reference in pixels.
        resolution: short side in pixels.

    Raises:
        ValueError: `resolution` is too small, so that the long side would be 0.
    """
    long_side = int(resolution / (9 / 16) // 64) * 64
    if long_side == 0:
        raise ValueError(
            f"resolution is {resolution}; the long side would be 0. Use at least 36 (released: 576)."
        )
    return (long_side, resolution) if height > width else (resolution, long_side)


def resize_to_cover(image: Image, height: int, width: int) -> Image:
    """Resize to the smallest size with the same aspect ratio that covers `height` x `width`.

    Bilinear with half-pixel centres, without antialiasing, rounded, as the released code resizes references.
    """
    aspect = image.shape[0] / image.shape[1]
    if aspect < height / width:
        size = (height, math.ceil(height / aspect))
    else:
        size = (math.ceil(width * aspect), width)
    if size == image.shape[:2]:
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    resized = nnf.interpolate(pixels, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    return resized.round().clamp(0, 255).to(torch.uint8).numpy()


def centre_crop(image: Image, height: int, width: int) -> Image:
    """Crop the central `height` x `width` pixels of a picture that is at least that large."""
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def pad_to_aspect(image: Image, height: int, width: int) -> Image:
    """Pad the picture by replicating its edges so that its aspect ratio is `height` : `width`."""
    rows, columns = image.shape[:2]
    more_rows = max(0, round(columns * height / width) - rows)
    more_columns = max(0, round(rows * width / height) - columns)
    before = more_rows // 2, more_columns // 2
    around = (
        (before[0], more_rows - before[0]),
        (before[1], more_columns - before[1]),
        (0, 0),
    )
    return np.pad(image, around, mode="edge")


def prepare_reference(
    image: Image,
    *,
    resolution: int | None = None,
    height: int | None = None,
    width: int | None = None,
    compatibility: Compatibility = Compatibility(),
) -> Image:
    """Resize a reference picture to cover the video's size, and crop its centre.

    Args:
        image: RGB, uint8 ``H x W x 3``.
        resolution: short side of the video in pixels; the long side follows (`target_size`).
        height, width: size of the video in pixels, instead of `resolution`.
        compatibility: roundings to reproduce; only `truncate_reference` is used.

    Returns:
        uint8 ``height x width x 3``.

    Raises:
        ValueError: not exactly one of `resolution` and the pair `height`, `width` is given, or the image is
            not an RGB picture of uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"the reference is {image.dtype} of shape {image.shape}; expected uint8 H x W x 3, RGB."
        )
    if resolution is not None and height is None and width is None:
        height, width = target_size(image.shape[0], image.shape[1], resolution)
    elif resolution is not None or height is None or width is None:
        raise ValueError("give either resolution, or height and width.")
    prepared = centre_crop(resize_to_cover(image, height, width), height, width)
    if compatibility.truncate_reference is not None:
        prepared = _truncating_round_trip(prepared, np.dtype(compatibility.truncate_reference))
    return prepared


def _truncating_round_trip(image: Image, dtype: np.dtype) -> Image:
    normalised = image.astype(dtype) / dtype.type(127.5) - dtype.type(1)
    return ((normalised + dtype.type(1)) * dtype.type(127.5)).astype(np.uint8)


def pose_maps_to_tensor(maps_FHW3: Image, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert drawn pose maps, uint8 ``F x H x W x 3``, to ``F x 3 x H x W`` in [-1, 1]."""
    maps = torch.from_numpy(np.ascontiguousarray(maps_FHW3)).permute(0, 3, 1, 2)
    return as_pixels(maps, dtype)


def as_pixels(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalise uint8 pictures of any shape to [-1, 1]; floating point, which is so already, is returned as
    it is."""
    return values if values.is_floating_point() else values.to(dtype) / 127.5 - 1


def as_bytes_F3HW(pictures_FHW3: Image) -> Tensor:
    """Convert uint8 pictures ``F x H x W x 3`` to a tensor ``F x 3 x H x W`` of the same bytes.

    Bytes stay in their order in memory, as in `pose_maps_to_tensor`: convolutions of another memory format
    round in another way.
    """
    return torch.from_numpy(np.ascontiguousarray(pictures_FHW3)).permute(0, 3, 1, 2)


def frames_to_uint8(frames_F3HW: Tensor, compatibility: Compatibility = Compatibility()) -> Image:
    """Convert frames in [0, 1] to uint8 ``F x H x W x 3``, rounded unless `truncate_frames` is set."""
    scaled = frames_F3HW.float().clamp(0, 1) * 255
    if not compatibility.truncate_frames:
        scaled = scaled.round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def as_pictures(image: Pictures) -> list[PIL.Image.Image | Tensor]:
    """Convert one or several pictures of any supported form to a list of RGB pictures.

    Args:
        image: PIL; a tensor or array of uint8 or of floats in [0, 1], ``H x W x 3`` or ``3 x H x W``, or with
            a batch axis in front; or a list of these.

    Raises:
        ValueError: the form is not supported, or floats are not in [0, 1].
    """
    if isinstance(image, list | tuple):
        return [picture for item in image for picture in as_pictures(item)]
    if isinstance(image, PIL.Image.Image):
        return [image.convert("RGB")]
    if isinstance(image, Tensor | np.ndarray) and image.ndim in {3, 4}:
        pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
        axes = (-1, -3) if isinstance(image, np.ndarray) else (-3, -1)
        axis = next((axis for axis in axes if pixels.shape[axis] == 3), None)
        if axis is not None and (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
            return _pictures_of(pixels if axis == -3 else pixels.movedim(-1, -3))
    shape = (
        f" of shape {tuple(image.shape)} and {image.dtype}" if isinstance(image, np.ndarray | Tensor) else ""
    )
    raise ValueError(
        f"the image is a {type(image).__name__}{shape}; give a PIL image, uint8 H x W x 3, or floats "
        "B x 3 x H x W in [0, 1]."
    )


def _pictures_of(pixels: Tensor) -> list[PIL.Image.Image | Tensor]:
    """Return each picture of ``3 x H x W`` or ``B x 3 x H x W``: uint8 as PIL, floats as tensors."""
    batch = pixels.reshape(-1, *pixels.shape[-3:])
    if pixels.dtype == torch.uint8:
        return [PIL.Image.fromarray(each.permute(1, 2, 0).contiguous().cpu().numpy()) for each in batch]
    if len(batch) and not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
        raise ValueError(
            f"the image's values are in [{pixels.min():g}, {pixels.max():g}]; floats have to be in [0, 1]."
        )
    return list(batch.float())


def picture_to_tensor(picture: PIL.Image.Image | Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Convert a picture to ``1 x 3 x H x W`` in [0, 1], resized to `size` (height, width) if given.

    Resizing does not keep the aspect ratio.
    """
    if isinstance(picture, PIL.Image.Image):
        if size is not None and picture.size != size[::-1]:
            picture = picture.resize(size[::-1], PIL.Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    if size is not None and picture.shape[-2:] != size:
        return nnf.interpolate(picture[None], size, mode="bicubic", antialias=True).clamp(0, 1)
    return picture[None]
