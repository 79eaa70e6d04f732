"""The reference picture at the size of the result, and the pose that its person has.

Legend: H height, W width. Pictures are RGB uint8.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.data.transforms import Compatibility, pad_to_aspect, prepare_reference, target_size
from mimic.families.base import AnimationPipeline
from mimic.files import local_path
from mimic.video import PictureSource, picture_from
from pose import PoseSequence

RELEASED_RESOLUTION = 576

FindPose = Callable[..., PoseSequence | None]


@dataclass(frozen=True)
class Reference:
    """A reference picture, ready for the model."""

    name: str
    original: NDArray[np.uint8]
    """As it came, upright; padded, if that was asked for."""
    picture: NDArray[np.uint8]
    """``H x W x 3`` at the size of the result."""
    pose: PoseSequence | None
    """F = 1; None for models that are not driven by skeletons."""

    @property
    def height(self) -> int:
        return self.picture.shape[0]

    @property
    def width(self) -> int:
        return self.picture.shape[1]

    def enlarged(self, factor: int) -> NDArray[np.uint8]:
        """The same part of the original at ``factor`` times the size."""
        return prepare_reference(self.original, height=factor * self.height, width=factor * self.width)


def see_reference(
    source: PictureSource,
    pipeline: AnimationPipeline[Any, Any],
    settings: CaseSettings,
    *,
    find_pose: FindPose,
    pose: PoseSequence | None = None,
) -> Reference:
    """Read a picture, bring it to the size of the result and find the pose of its person.

    Args:
        find_pose: a driver's `reference_pose`.
        pose: where it is known already.

    Raises:
        FileNotFoundError, PictureError: the picture is not there or cannot be read.
        PoseError: nobody is in it.
        ValueError: the size does not suit the model.
    """
    name, original = read_reference(source)
    height, width = output_size(original, pipeline, settings)
    original = fitted(original, height, width, pipeline, settings)
    if pose is None:
        pose = find_pose(original, height, width, settings, name=name)
    compatibility = compatibility_of(pipeline, settings)
    picture = prepare_reference(original, height=height, width=width, compatibility=compatibility)
    return Reference(name, original, picture, pose)


def read_reference(source: PictureSource) -> tuple[str, NDArray[np.uint8]]:
    """(name for messages, picture) of a file or of a picture that is in memory."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source), picture_from(local_path(source))
    return "the reference picture", picture_from(source, name="the reference picture")


def output_size(
    picture: NDArray[np.uint8], pipeline: AnimationPipeline[Any, Any], settings: CaseSettings
) -> tuple[int, int]:
    """(height, width) of the result: as set, or as suits the model's weights, or as released.

    Raises:
        ValueError: the model cannot make that size.
    """
    defaults = pipeline.generation_defaults
    if settings.height is not None and settings.width is not None:
        size = settings.height, settings.width
    elif settings.resolution is None and "height" in defaults and "width" in defaults:
        size = int(defaults["height"]), int(defaults["width"])
    else:
        size = target_size(picture.shape[0], picture.shape[1], settings.resolution or RELEASED_RESOLUTION)
    unit = pipeline.size_unit
    if size[0] % unit or size[1] % unit:
        near = [max(unit, round(side / unit) * unit) for side in size]
        raise ValueError(
            f"the result would be {size[0]} x {size[1]} (height x width), and this model makes multiples of "
            f"{unit}; use height: {near[0]} and width: {near[1]}"
        )
    return size


def fitted(
    picture: NDArray[np.uint8],
    height: int,
    width: int,
    pipeline: AnimationPipeline[Any, Any],
    settings: CaseSettings,
) -> NDArray[np.uint8]:
    """The picture itself, whose middle will be taken, or padded to the result's aspect (`fit`)."""
    fit = settings.fit or pipeline.generation_defaults.get("fit", "crop")
    return pad_to_aspect(picture, height, width) if fit == "pad" else picture


def compatibility_of(pipeline: AnimationPipeline[Any, Any], settings: CaseSettings) -> Compatibility:
    """Which roundings of the released script to repeat."""
    if settings.compat == "none":
        return Compatibility()
    return Compatibility.released(
        torch.float16 if pipeline.denoiser.dtype == torch.float16 else torch.float32
    )
