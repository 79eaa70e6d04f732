"""Forms of pose maps that a caller may give: drawn maps, or a callable that draws them on demand.

Legend: B batch, F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from mimic.data.transforms import pose_maps_to_tensor

MapDrawer = Callable[[list[int]], Tensor | np.ndarray]
"""Draws the pose maps of the given frames: ``F x 3 x H x W`` in [-1, 1], RGB, or uint8 ``F x H x W x 3``."""

PoseMaps: TypeAlias = "Tensor | np.ndarray | MapDrawer | PIL.Image.Image | Sequence[PoseMaps]"
"""Pose maps in the forms that `as_pose_maps` takes."""

_UINT8 = frozenset({torch.uint8, np.dtype("uint8")})
_TOLERANCE = 1e-3  # rounding in half precision


def as_pose_maps(image_pose: PoseMaps) -> list[MapDrawer]:
    """Convert pose maps of any supported form to one drawing function for each video, or one for all.

    Args:
        image_pose: tensors or arrays, RGB: float ``F x 3 x H x W`` in [-1, 1]; uint8 ``F x H x W x 3`` or
            ``F x 3 x H x W``; or float ``F x H x W x 3`` in [0, 1], or in [-1, 1] if any value is negative.
            A fifth axis in front counts videos. Or a list of the frames of one clip: PIL pictures or arrays
            without the axis F. Or a callable that takes frame indices and returns a `MapDrawer`'s maps. Or a
            list with one of these for each video.

    Raises:
        ValueError: the form is not supported, or values are not finite or outside their range in any frame.
    """
    if isinstance(image_pose, list | tuple):
        if not image_pose:
            raise ValueError("image_pose has no frames; give maps, or None to animate without poses.")
        if all(_is_frame(item) for item in image_pose):
            return [DrawnPoseMaps(_stacked(image_pose))]
        return [maps for item in image_pose for maps in as_pose_maps(item)]
    if isinstance(image_pose, Tensor | np.ndarray) and image_pose.ndim in {4, 5}:
        videos = list(image_pose) if image_pose.ndim == 5 else [image_pose]
        return [DrawnPoseMaps(video) for video in videos]
    if callable(image_pose) and not isinstance(image_pose, type | Tensor):
        return [image_pose]
    shape = f" of shape {tuple(image_pose.shape)}" if hasattr(image_pose, "shape") else ""
    raise ValueError(
        f"image_pose is a {type(image_pose).__name__}{shape}; give a tensor F x 3 x H x W in [-1, 1], uint8 "
        "F x H x W x 3, a list of pictures, or a callable that takes frame indices and draws their maps."
    )


def num_pose_frames(image_pose: PoseMaps | None) -> int | None:
    """Return the number of frames of pose maps, for a list of clips that of the first; None if it is
    unknown."""
    if isinstance(image_pose, list | tuple):
        if image_pose and all(_is_frame(item) for item in image_pose):
            return len(image_pose)
        return num_pose_frames(image_pose[0]) if image_pose else None
    if isinstance(image_pose, Tensor | np.ndarray):
        return image_pose.shape[-4]
    return len(image_pose) if isinstance(image_pose, Sized) else None


class DrawnPoseMaps:
    """Pose maps that are already drawn, every frame of them checked.

    Args:
        maps: of one clip, in a form that `as_pose_maps` takes.

    Raises:
        ValueError: the shape is not supported, or values are not finite or outside their range.
    """

    def __init__(self, maps: Tensor | np.ndarray) -> None:
        self._maps, self._is_last = maps, _channels_are_last(maps)
        self._is_uint8 = maps.dtype in _UINT8
        low, high = (0.0, 255.0) if self._is_uint8 else _extremes(maps)
        self._is_unit = self._is_last and not self._is_uint8 and low >= 0
        self.check(low, high)

    def check(self, low: float, high: float) -> None:
        """Raise `ValueError` unless values from `low` to `high` are in range."""
        if self._is_uint8:
            return
        if not str(self._maps.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
            raise ValueError(
                f"pose maps are {self._maps.dtype}; give uint8, or floats in [-1, 1]: uint8 maps / 127.5 - 1."
            )
        _check_range(low, high)

    def __len__(self) -> int:
        return len(self._maps)

    def __call__(self, frames: list[int]) -> Tensor:
        """Return the maps of the given frames, ``F x 3 x H x W`` in [-1, 1]."""
        maps = _as_tensor(self._maps[frames])
        if self._is_last:
            maps = maps.permute(0, 3, 1, 2)
        if self._is_uint8:
            return maps.float() / 127.5 - 1
        return maps * 2 - 1 if self._is_unit else maps


def as_pose_tensor(maps: Tensor | np.ndarray) -> Tensor:
    """Convert maps returned by a drawing function to ``F x 3 x H x W`` in [-1, 1].

    Raises:
        ValueError: values are not finite or outside [-1, 1].
    """
    if maps.dtype in _UINT8:
        array = np.asarray(maps)
        return pose_maps_to_tensor(array if _channels_are_last(array) else array.transpose(0, 2, 3, 1))
    tensor = _as_tensor(maps)
    _check_range(*_extremes(tensor))
    return tensor


def _check_range(low: float, high: float) -> None:
    if not np.isfinite([low, high]).all():
        raise ValueError("pose maps have values that are NaN or infinite; draw them again.")
    if low < -1 - _TOLERANCE or high > 1 + _TOLERANCE:
        raise ValueError(
            f"pose maps reach {high if abs(high) > abs(low) else low:g}; they have to be in [-1, 1]: uint8 "
            "maps / 127.5 - 1."
        )


def _extremes(maps: Tensor | np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest value, frame by frame so that no copy of the clip is made; NaN if any
    value is NaN."""
    extremes = [torch.aminmax(_as_tensor(frame)) for frame in maps]
    if not extremes:
        return 0.0, 0.0
    low, high = (torch.stack([each[i].float() for each in extremes]) for i in (0, 1))
    return float(low.min()), float(high.max())


def _as_tensor(maps: Tensor | np.ndarray) -> Tensor:
    return maps if isinstance(maps, Tensor) else torch.from_numpy(np.array(maps))


def _channels_are_last(maps: Tensor | np.ndarray) -> bool:
    shape = tuple(maps.shape)
    if len(shape) == 4 and shape[1] == 3 and (shape[3] != 3 or isinstance(maps, Tensor)):
        return False
    if len(shape) == 4 and shape[3] == 3:
        return True
    raise ValueError(f"pose maps have shape {shape}; expected F x 3 x H x W or F x H x W x 3, RGB.")


def _is_frame(item: Any) -> bool:
    return isinstance(item, PIL.Image.Image) or (isinstance(item, Tensor | np.ndarray) and item.ndim == 3)


def _stacked(frames: Sequence[Any]) -> Tensor | np.ndarray:
    """Return the frames of one clip as one array."""
    arrays: list[Any] = [
        np.asarray(frame.convert("RGB")) if isinstance(frame, PIL.Image.Image) else frame for frame in frames
    ]
    kinds = {(isinstance(array, Tensor), tuple(array.shape), array.dtype) for array in arrays}
    if len(kinds) > 1:
        sizes = sorted({tuple(array.shape) for array in arrays})
        raise ValueError(
            f"the frames of image_pose differ in size or type ({', '.join(map(str, sizes))}); give frames of "
            "one size and type."
        )
    return torch.stack(arrays) if isinstance(arrays[0], Tensor) else np.stack(arrays)
