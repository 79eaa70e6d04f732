"""One picture of a person and a driving video in, a video of that person making those movements out."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
    from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
    from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
    from mimic.families.registry import load_pipeline
    from mimic.generation import generate
    from mimic.models.mini import MiniTemporalVAE
    from mimic.models.motion_unet import MotionUNet
    from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
    from mimic.models.pose_net import PoseNet
    from mimic.models.prompt_embedding import PromptEmbedding
    from mimic.models.reference_unet import ReferenceUNet
    from mimic.models.svd_unet import PoseConditionedSVDUNet

__all__ = [
    "AnimateAnyonePipeline",
    "MagicAnimatePipeline",
    "MimicMotionPipeline",
    "MiniTemporalVAE",
    "MotionUNet",
    "PaperPoseGuider",
    "PoseConditionedSVDUNet",
    "PoseGuider",
    "PoseNet",
    "PromptEmbedding",
    "ReferenceUNet",
    "generate",
    "load_pipeline",
]

# diffusers and peft import bitsandbytes where it is installed; it warns about parts that are not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Imported when first asked for, so that `import mimic` costs nothing. diffusers looks the classes of a saved
# model up here, and beside them the base class that tells it how to load them.
_HOMES = {
    "ModelMixin": "diffusers",
    "AnimateAnyonePipeline": "mimic.families.animate_anyone.pipeline",
    "MagicAnimatePipeline": "mimic.families.magic_animate.pipeline",
    "MimicMotionPipeline": "mimic.families.mimicmotion.pipeline",
    "MiniTemporalVAE": "mimic.models.mini",
    "MotionUNet": "mimic.models.motion_unet",
    "PaperPoseGuider": "mimic.models.pose_guider",
    "PoseConditionedSVDUNet": "mimic.models.svd_unet",
    "PoseGuider": "mimic.models.pose_guider",
    "PoseNet": "mimic.models.pose_net",
    "PromptEmbedding": "mimic.models.prompt_embedding",
    "ReferenceUNet": "mimic.models.reference_unet",
    "generate": "mimic.generation",
    "load_pipeline": "mimic.families.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mimic' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
