"""What a MimicMotion run works on, and all that is checked before it starts.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents; D width of CLIP's embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import PIL.Image
import torch
from torch import Tensor

from mimic.data.pose_maps import PoseMaps
from mimic.families import checks
from mimic.families.base import OUTPUT_TYPES, StepReport
from mimic.families.pose_features import PoseFeatures
from mimic.sampling.fusion import FUSIONS
from mimic.sampling.noise import NOISE_LENGTHS, Generators

if TYPE_CHECKING:
    from mimic.families.mimicmotion.pipeline import MimicMotionPipeline


@dataclass(frozen=True)
class Request:
    """A call with all its defaults filled in."""

    pictures: list[PIL.Image.Image | Tensor]
    """One reference for each video."""
    pose_maps: list[PoseMaps]
    """One drawer for each video, or one for all; empty for no pose."""
    height: int
    width: int
    num_frames: int
    tile_size: int
    windows: list[list[int]]
    num_inference_steps: int
    guidance_scales: Tensor
    """``F``"""
    guidance_interval: tuple[float, float] | None
    fps: int
    motion_bucket_id: int
    noise_aug_strength: float
    image_only_indicator: bool
    fusion: str
    noise: str
    generator: Generators
    latents: Tensor | None
    output_type: str
    decode_chunk_size: int
    step_report: StepReport


@dataclass(frozen=True)
class Conditions:
    """What stays the same throughout a run."""

    image_embeddings: Tensor
    """``B x 1 x D``"""
    reference_latents: Tensor
    """``B x C x h x w``, without the scaling factor"""
    added_time_ids: Tensor
    """``B x 3``: fps - 1, motion bucket, noise augmentation"""
    pose_features: PoseFeatures | None

    def unconditional(self) -> Conditions:
        """Of the other branch of guidance: nothing of the picture and no pose; the time ids stay."""
        return replace(
            self,
            image_embeddings=torch.zeros_like(self.image_embeddings),
            reference_latents=torch.zeros_like(self.reference_latents),
            pose_features=None,
        )


@dataclass(frozen=True)
class Start:
    """Where denoising begins."""

    latents: Tensor
    """``B x F x C x h x w``, float32"""
    timesteps: Tensor


def check_parts(pipe: MimicMotionPipeline) -> None:
    """Raise `ValueError` when the components of a pipeline do not fit each other."""
    unet, vae, pose_net = pipe.unet.config, pipe.vae.config, pipe.pose_net.config
    if unet.in_channels != 2 * vae.latent_channels:
        raise ValueError(
            f"the UNet takes {unet.in_channels} channels and the VAE's latents have {vae.latent_channels}; "
            "the UNet has to take twice as many (noisy latents and the reference's)."
        )
    if pose_net.noise_latent_channels != unet.block_out_channels[0]:
        raise ValueError(
            f"PoseNet gives {pose_net.noise_latent_channels} channels, the UNet's first convolution "
            f"{unet.block_out_channels[0]}; they are added, so build PoseNet with noise_latent_channels="
            f"{unet.block_out_channels[0]}."
        )
    pose_downscale = math.prod(pose_net.strides)
    if pose_downscale != pipe.pixels_per_latent:
        raise ValueError(
            f"PoseNet's strides {tuple(pose_net.strides)} make maps {pose_downscale}x smaller, the VAE makes "
            f"latents {pipe.pixels_per_latent}x smaller; build PoseNet with strides whose product is "
            f"{pipe.pixels_per_latent}."
        )
    if unet.projection_class_embeddings_input_dim != 3 * unet.addition_time_embed_dim:
        raise ValueError(
            f"the UNet embeds {unet.projection_class_embeddings_input_dim} numbers of added time ids; "
            f"expected 3 x {unet.addition_time_embed_dim} (fps, motion bucket, noise augmentation)."
        )


def check_request(pipe: MimicMotionPipeline, request: Request) -> None:
    """Raise `ValueError` for a request that the pipeline cannot fulfil."""
    checks.check_size(request.height, request.width, pipe.pixels_per_latent)
    checks.check_known("output_type", request.output_type, OUTPUT_TYPES)
    checks.check_known("fusion", request.fusion, tuple(FUSIONS))
    checks.check_known("noise", request.noise, NOISE_LENGTHS)
    checks.check_counts(
        num_inference_steps=request.num_inference_steps,
        decode_chunk_size=request.decode_chunk_size,
        fps=request.fps,
    )
    if request.noise_aug_strength < 0:
        raise ValueError(f"noise_aug_strength is {request.noise_aug_strength}; it has to be at least 0.")
    if request.guidance_interval is not None and not hasattr(pipe.scheduler, "sigmas"):
        raise ValueError(
            f"guidance_interval needs a scheduler with sigmas; {type(pipe.scheduler).__name__} has none."
        )
    checks.check_videos(len(request.pictures), request.generator)
    checks.check_latents(
        request.latents,
        num_videos=len(request.pictures),
        lengths={request.tile_size, request.num_frames},
        shape=pipe.latent_shape(request.height, request.width),
    )
    checks.check_pose_maps(
        request.pose_maps,
        num_videos=len(request.pictures),
        num_frames=request.num_frames,
        height=request.height,
        width=request.width,
    )
