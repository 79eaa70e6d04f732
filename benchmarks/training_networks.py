"""The networks of each shipped training at full size, on the meta device: shapes without memory."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, DDIMScheduler, EulerDiscreteScheduler
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.counted_memory import WithoutValues
from mimic.config.loading import ConfigError, read_yaml
from mimic.families.animate_anyone.keys import build_on_meta as animate_anyone_networks
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.base import AnimationPipeline, quiet_libraries
from mimic.families.magic_animate.keys import build_on_meta as magic_animate_networks
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.registry import load_pipeline, load_task
from mimic.families.stable_diffusion import SCHEDULER
from mimic.miniature.other_vae import on_other_vae
from mimic.miniature.train_vae import MiniVAESettings, build_vae
from mimic.models.pose_guider import PoseGuider
from mimic.models.pose_net import PoseNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.training.settings import TrainSettings

SVD_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
"""Of Stable Video Diffusion 1.1."""
_SD_VAE: dict[str, Any] = {
    **SVD_VAE,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "sample_size": 512,
}
_SD_UNET: dict[str, Any] = {
    "in_channels": 4,
    "sample_size": 64,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SD_CONTROLNET = {k: v for k, v in _SD_UNET.items() if k not in ("sample_size", "up_block_types")}
_POSITIONS = {"animate_anyone": 32, "magic_animate": 24}
"""Along time, in the released weights."""
_CLIP = {
    "ViT-H": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "projection_dim": 1024,
    },
    "ViT-L": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "projection_dim": 768,
    },
}
_MINIATURES = {
    "mimicmotion": "bundled:mini",
    "animate_anyone": "bundled:mini_animate_anyone",
    "magic_animate": "bundled:mini_magic_animate",
}
_LARGER = "runs/mini_start"


def pipeline_of(settings: TrainSettings) -> AnimationPipeline[Any, Any]:
    """Build the pipeline of a training's model on the meta device."""
    if settings.model == "tiny":
        size = {"height": settings.data.height, "width": settings.data.width}
        return _moved(load_task(settings.family).tiny_pipeline(**size, seed=0))
    if settings.model.startswith(("bundled:mini", "runs/mini")):
        # The miniatures' trainings start from networks of the bundled miniatures' sizes.
        pipeline: Any = load_pipeline(_MINIATURES[settings.family], dtype=torch.float32, device="cpu")
        if settings.model == _LARGER:
            vae = MiniVAESettings.model_validate(
                {k: v for k, v in read_yaml("configs/train/mini_vae.yaml", []).items() if k != "trainer"}
            )
            pipeline = on_other_vae(pipeline, build_vae(vae))
        return _moved(pipeline)
    with quiet_libraries(), torch.device("meta"), WithoutValues():
        made = {
            "mimicmotion": _mimicmotion,
            "animate_anyone": _animate_anyone,
            "magic_animate": _magic_animate,
        }.get(settings.family)
        if made is None:
            raise ConfigError(f"there are no full-size networks of {settings.family} in benchmarks")
        return _moved(made())


def _mimicmotion() -> MimicMotionPipeline:
    return MimicMotionPipeline(
        vae=AutoencoderKLTemporalDecoder(**SVD_VAE, force_upcast=True),
        image_encoder=_image_encoder("ViT-H"),
        unet=PoseConditionedSVDUNet(sample_size=96),
        scheduler=_on_cpu(EulerDiscreteScheduler, prediction_type="v_prediction"),
        feature_extractor=CLIPImageProcessor(),
        pose_net=PoseNet(noise_latent_channels=320),
    )


def _animate_anyone() -> AnimateAnyonePipeline:
    networks: dict[str, Any] = animate_anyone_networks(
        _SD_UNET,
        num_positions=_POSITIONS["animate_anyone"],
        has_motion_in_middle=True,
        pose_guider=PoseGuider().state_dict(),
    )
    return AnimateAnyonePipeline(
        vae=AutoencoderKL(**_SD_VAE),
        image_encoder=_image_encoder("ViT-L"),
        scheduler=_on_cpu(DDIMScheduler, **SCHEDULER),
        feature_extractor=CLIPImageProcessor(),
        **networks,
    )


def _magic_animate() -> MagicAnimatePipeline:
    networks: dict[str, Any] = magic_animate_networks(
        _SD_UNET, _SD_UNET, _SD_CONTROLNET, num_positions=_POSITIONS["magic_animate"]
    )
    return MagicAnimatePipeline(
        vae=AutoencoderKL(**_SD_VAE),
        scheduler=_on_cpu(DDIMScheduler, **SCHEDULER),
        prompt_embedding=PromptEmbedding(),
        **networks,
    )


def _on_cpu(scheduler: Any, **arguments: Any) -> Any:
    with torch.device("cpu"):  # its values decide what is computed
        return scheduler(**arguments)


def _image_encoder(name: str) -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**_CLIP[name], image_size=224, patch_size=14))


def _moved(pipeline: Any) -> Any:
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to("meta")
    return pipeline
