"""One picture of a person and a driving video in, a video of that person making those movements out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
    from mimic.families.registry import load_pipeline
    from mimic.generation import generate
    from mimic.models.mini import MiniTemporalVAE
    from mimic.models.pose_net import PoseNet
    from mimic.models.svd_unet import PoseConditionedSVDUNet

__all__ = [
    "MimicMotionPipeline",
    "MiniTemporalVAE",
    "PoseConditionedSVDUNet",
    "PoseNet",
    "generate",
    "load_pipeline",
]

# Imported when first asked for, so that `import mimic` costs nothing. diffusers looks the classes of a saved
# model up here, and beside them the base class that tells it how to load them.
_HOMES = {
    "ModelMixin": "diffusers",
    "MimicMotionPipeline": "mimic.families.mimicmotion.pipeline",
    "MiniTemporalVAE": "mimic.models.mini",
    "PoseConditionedSVDUNet": "mimic.models.svd_unet",
    "PoseNet": "mimic.models.pose_net",
    "generate": "mimic.generation",
    "load_pipeline": "mimic.families.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mimic' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
