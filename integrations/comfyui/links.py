"""Types of the links between nodes, and what passes along them.

Legend: B batch, F frames, H height, W width. ComfyUI's pictures are float ``F x H x W x 3`` in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from comfy_api.latest import io
from numpy.typing import NDArray
from torch import Tensor

from mimic.config import CaseSettings
from mimic.families.base import AnimationPipeline
from mimic.families.plan import Plan
from mimic.generation.drivers import Driving
from mimic.generation.reference import Reference

CATEGORY = "Mimic"

Pipeline = io.Custom("MIMIC_PIPELINE")
Poses = io.Custom("MIMIC_POSES")
FittedMotion = io.Custom("MIMIC_FIT")
Latents = io.Custom("MIMIC_LATENTS")
Keypoints = io.Custom("POSE_KEYPOINT")
"""Keypoints of ComfyUI's pose preprocessors: frames in OpenPose's JSON layout."""


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline and the settings that its model name stands for."""

    pipeline: AnimationPipeline[Any, Any]
    settings: Mapping[str, Any]
    """Settings of `CaseSettings` that belong to the model, such as those of the released YAML."""


@dataclass(frozen=True)
class Fitted:
    """A motion fitted to the person of a picture."""

    loaded: LoadedPipeline
    reference: Reference
    driving: Driving
    settings: Mapping[str, Any]
    """Settings of `CaseSettings` as given, by name."""


@dataclass(frozen=True)
class Sampled:
    """Latents of all frames, and what decoding needs to know."""

    fitted: Fitted
    latents: Tensor
    """``B x F x C x h x w``."""
    plan: Plan[Any]
    settings: CaseSettings


def to_pictures(images: Tensor) -> NDArray[np.uint8]:
    """Convert ComfyUI's pictures to RGB uint8 ``F x H x W x 3``; an alpha channel is dropped.

    Raises:
        ValueError: they have another shape.
    """
    if images.ndim != 4 or images.shape[-1] not in (3, 4):
        raise ValueError(
            f"an image input has shape {list(images.shape)}; expected frames x height x width x 3"
        )
    return np.stack([to_picture(image) for image in images])


def to_picture(image: Tensor) -> NDArray[np.uint8]:
    """Convert one of ComfyUI's pictures, float ``H x W x 3``, to RGB uint8."""
    return (image[..., :3].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def to_images(pictures: Iterable[NDArray[np.uint8]], num_frames: int) -> Tensor:
    """Convert RGB uint8 pictures ``H x W x 3`` of one size to ComfyUI's, one after the other."""
    images = torch.empty(0)
    for number, picture in enumerate(pictures):
        if number == 0:
            images = torch.empty(num_frames, *picture.shape, dtype=torch.float32)
        images[number] = torch.from_numpy(np.ascontiguousarray(picture)).float() / 255
    return images


def read_settings(text: str) -> dict[str, Any]:
    """Read the text of a `settings` input: YAML, one `key: value` on each line.

    Raises:
        ValueError: it is not of this form.
    """
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"settings cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise ValueError(f"settings is {text!r}; expected one `key: value` on each line")
    return settings
