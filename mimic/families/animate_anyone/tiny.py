"""An Animate Anyone of random weights that trains twenty steps within seconds on a CPU: to try things out."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.families.animate_anyone.keys import SCHEDULER
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE, initialise_as_averaging
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PoseGuider
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions

_WIDTH = 32  # of every layer: 8 norm groups of 4 channels, 2 heads of 16


def tiny_pipeline(*, height: int, width: int, seed: int) -> AnimateAnyonePipeline:
    """A pipeline that gives pictures of `height` x `width` (multiples of 8).

    The VAE (latents 4x smaller) begins as an averaging autoencoder, so that pictures survive it; everything
    else is random.

    Raises:
        ValueError: a side is no multiple of 8.
    """
    if height % 8 or width % 8:
        raise ValueError(f"a tiny model makes pictures of multiples of 8 pixels, not {height} x {width}.")
    spatial: dict[str, Any] = {
        "sample_size": height // 4,
        "block_out_channels": (_WIDTH, _WIDTH),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": _WIDTH,
        "num_attention_heads": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = MiniTemporalVAE(block_out_channels=(_WIDTH,) * 3, sample_size=height)
        initialise_as_averaging(vae)
        unet = MotionUNet(
            **spatial,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
            motion_num_attention_heads=2,
            motion_norm_num_groups=8,
        )
        reference_unet = ReferenceUNet(
            **spatial,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        pose_guider = PoseGuider(_WIDTH, channels=(8, 16, 16))
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=_WIDTH,
                intermediate_size=_WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=32,
                patch_size=16,
                projection_dim=_WIDTH,
            )
        )
        # Not zero, so that all of it has gradients from the first step.
        torch.nn.init.normal_(pose_guider.conv_out.weight, std=0.02)
        for name, parameter in unet.named_parameters():
            if "motion_modules" in name and name.endswith("proj_out.weight"):
                torch.nn.init.normal_(parameter, std=0.02)
    use_fast_temporal_convolutions(vae)
    for module in (vae, unet, reference_unet, pose_guider, image_encoder):
        module.eval()
    pipeline = AnimateAnyonePipeline(
        vae=vae,
        image_encoder=image_encoder,
        reference_unet=reference_unet,
        unet=unet,
        pose_guider=pose_guider,
        scheduler=DDIMScheduler(**SCHEDULER),
        feature_extractor=image_processor_class()(),
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.generation_defaults = {
        "height": height,
        "width": width,
        "num_inference_steps": 4,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 1.0,
    }
    return pipeline
