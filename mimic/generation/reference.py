"""Read the reference picture, fit it to the size of the result, and estimate the pose of its person.

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
MANY_PADDED = 0.2
"""Share of the result beside the picture from which on a run says so."""

FindPose = Callable[..., PoseSequence | None]


@dataclass(frozen=True)
class Reference:
    """A reference picture, prepared for the model."""

    name: str
    original: NDArray[np.uint8]
    """The picture at its original size, upright; padded if `fit` is ``pad``."""
    picture: NDArray[np.uint8]
    """The picture at the size of the result, ``H x W x 3``."""
    pose: PoseSequence | None
    """Pose of the person, F = 1; None for models that are not driven by skeletons."""
    padding_note: str | None = None
    """Says so, where much of the result is padding beside the picture."""

    @property
    def height(self) -> int:
        return self.picture.shape[0]

    @property
    def width(self) -> int:
        return self.picture.shape[1]

    def enlarged(self, factor: int) -> NDArray[np.uint8]:
        """Return the same part of the original at ``factor`` times the size of the result."""
        return prepare_reference(self.original, height=factor * self.height, width=factor * self.width)


def see_reference(
    source: PictureSource,
    pipeline: AnimationPipeline[Any, Any],
    settings: CaseSettings,
    *,
    find_pose: FindPose,
    pose: PoseSequence | None = None,
) -> Reference:
    """Read a picture, fit it to the size of the result and estimate the pose of its person.

    Args:
        source: the picture: a file, or RGB (uint8 ``H x W x 3`` or PIL).
        pipeline: determines the size of the result where settings do not.
        settings: settings of the case.
        find_pose: a driver's `reference_pose`.
        pose: the pose, if already known.

    Raises:
        FileNotFoundError, PictureError: the picture is missing or cannot be read.
        PoseError: no person is found.
        ValueError: the model does not support the size.
    """
    name, original = read_reference(source)
    height, width = output_size(original, pipeline, settings)
    seen = original
    original = fitted(original, height, width, pipeline, settings)
    if pose is None:
        pose = find_pose(original, height, width, settings, name=name)
    compatibility = compatibility_of(pipeline, settings)
    picture = prepare_reference(original, height=height, width=width, compatibility=compatibility)
    return Reference(name, original, picture, pose, _padding_note(name, seen, original))


def _padding_note(name: str, picture: NDArray[np.uint8], padded: NDArray[np.uint8]) -> str | None:
    share = 1 - picture.size / padded.size
    if share < MANY_PADDED:
        return None
    sides = "left and right" if padded.shape[1] > picture.shape[1] else "above and below"
    return (
        f"{name} is {picture.shape[1]}x{picture.shape[0]} and not of the result's shape: its edges are "
        f"extended {sides}, over {100 * share:.0f} % of the frame; a picture cropped to the person is better "
        "(fit=crop cuts out its centre)"
    )


def read_reference(source: PictureSource) -> tuple[str, NDArray[np.uint8]]:
    """Return a picture's name for messages and its RGB pixels, from a file or from memory."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source), picture_from(local_path(source))
    return "the reference picture", picture_from(source, name="the reference picture")


def output_size(
    picture: NDArray[np.uint8], pipeline: AnimationPipeline[Any, Any], settings: CaseSettings
) -> tuple[int, int]:
    """Return (height, width) of the result: as set, else as stored with the weights, else as released.

    Raises:
        ValueError: the model does not support the size.
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
            f"the result would be {size[0]} x {size[1]} (height x width), but this model needs multiples of "
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
    """Pad the picture to the result's aspect ratio for ``fit: pad``; else return it unchanged, to be
    cropped."""
    fit = settings.fit or pipeline.generation_defaults.get("fit", "crop")
    return pad_to_aspect(picture, height, width) if fit == "pad" else picture


def compatibility_of(pipeline: AnimationPipeline[Any, Any], settings: CaseSettings) -> Compatibility:
    """Return which roundings of the released script to reproduce."""
    if settings.compat == "none":
        return Compatibility()
    return Compatibility.released(
        torch.float16 if pipeline.denoiser.dtype == torch.float16 else torch.float32
    )
