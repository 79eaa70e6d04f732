"""Put a trained miniature together as a model folder that the pipeline loads like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler

from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.training.mini_unet import Mini, MiniSettings, pose_strides
from mimic.training.state import load_state


def assemble(
    checkpoint: Path, settings: MiniSettings, *, sigma_min: float, sigma_max: float, defaults: dict[str, Any]
) -> MimicMotionPipeline:
    """A pipeline of the VAE and of the averaged weights of a checkpoint.

    Args:
        sigma_min, sigma_max: the noise range that the sampler runs through; the last step goes from sigma_min to 0.
        defaults: what suits these weights: size, steps, guidance (kept in the folder's `mimic.json`).
    """
    vae = MiniTemporalVAE.from_pretrained(settings.vae)
    downscale = 2 ** (len(vae.config["block_out_channels"]) - 1)
    model = Mini(
        settings,
        latent_channels=vae.config["latent_channels"],
        latent_size=settings.dancers.height // downscale,
        pose_strides=pose_strides(downscale),
    )
    tensors, _ = load_state(checkpoint)
    model.load_state_dict(tensors["average"])
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        interpolation_type="linear",
        use_karras_sigmas=True,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )
    pipeline = MimicMotionPipeline(
        vae=vae,
        image_encoder=model.image_encoder,
        unet=model.unet,
        scheduler=scheduler,
        feature_extractor=image_processor_class()(),
        pose_net=model.pose_net,
    )
    pipeline.generation_defaults = defaults
    for module in (vae, model):
        module.requires_grad_(False).eval()
    return pipeline


def save_bundle(pipeline: MimicMotionPipeline, folder: Path) -> int:
    """Write the pipeline in half precision; returns the bytes of its weights."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
