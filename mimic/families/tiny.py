"""Shared parts of the tiny pipelines: networks with random weights that train twenty steps within seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.families.task import PipelineT
from mimic.models.mini import MiniTemporalVAE, initialise_as_averaging
from mimic.models.motion_unet import MotionUNet
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions

WIDTH = 32
"""Number of channels of every layer: 8 norm groups of 4 channels, 2 heads of 16."""
SPATIAL = {
    "block_out_channels": (WIDTH, WIDTH),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": WIDTH,
}
"""Arguments that the UNets of all families share."""


def tiny_motion_unet(height: int, **own: Any) -> MotionUNet:
    """A denoising UNet for latents 4x smaller; `own` are the family's arguments."""
    return MotionUNet(
        **_of_latents(height),
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        **own,
    )


def tiny_reference_unet(height: int, **own: Any) -> ReferenceUNet:
    """The reference network of `tiny_motion_unet`."""
    return ReferenceUNet(
        **_of_latents(height),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **own,
    )


def _of_latents(height: int) -> dict[str, Any]:
    return {**SPATIAL, "sample_size": height // 4, "num_attention_heads": 2}


@contextmanager
def seeded(seed: int, height: int, width: int) -> Iterator[None]:
    """Draw weights from `seed` inside the context and restore torch's random state afterwards.

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    if height % 8 or width % 8:
        raise ValueError(
            f"a tiny model needs a height and width that are multiples of 8, not {height} x {width}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_vae(height: int) -> MiniTemporalVAE:
    """Build a VAE that downsamples 4x, initialised as an averaging autoencoder so that pictures are
    recognisable without training."""
    vae = MiniTemporalVAE(block_out_channels=(WIDTH,) * 3, sample_size=height)
    initialise_as_averaging(vae)
    return vae


def tiny_image_encoder() -> CLIPVisionModelWithProjection:
    """Build a CLIP image encoder with one layer."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            projection_dim=WIDTH,
        )
    )


def finished(pipeline: PipelineT, *, height: int, width: int) -> PipelineT:
    """Switch a pipeline to evaluation mode without progress bars, and set the defaults of a tiny model."""
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            use_fast_temporal_convolutions(module)
            module.eval()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.generation_defaults = {
        "height": height,
        "width": width,
        "num_inference_steps": 4,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 1.0,
    }
    return pipeline
