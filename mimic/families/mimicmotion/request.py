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

from mimic.data.pose_maps import PoseMaps, as_pose_tensor
from mimic.families.base import OUTPUT_TYPES, StepReport
from mimic.families.mimicmotion.pose_features import PoseFeatures
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
    side = pipe.pixels_per_latent
    if request.height % side or request.width % side or min(request.height, request.width) < side:
        near = [max(side, round(length / side) * side) for length in (request.height, request.width)]
        raise ValueError(
            f"the video is {request.height} x {request.width} (height x width); both have to be multiples of "
            f"{side}. Use {near[0]} x {near[1]}."
        )
    _check_known("output_type", request.output_type, OUTPUT_TYPES)
    _check_known("fusion", request.fusion, tuple(FUSIONS))
    _check_known("noise", request.noise, NOISE_LENGTHS)
    for name in ("num_inference_steps", "decode_chunk_size", "fps"):
        if getattr(request, name) < 1:
            raise ValueError(f"{name} is {getattr(request, name)}; it has to be at least 1.")
    if request.noise_aug_strength < 0:
        raise ValueError(f"noise_aug_strength is {request.noise_aug_strength}; it has to be at least 0.")
    if request.guidance_interval is not None and not hasattr(pipe.scheduler, "sigmas"):
        raise ValueError(
            f"guidance_interval needs a scheduler with sigmas; {type(pipe.scheduler).__name__} has none."
        )
    num_videos = len(request.pictures)
    if not num_videos:
        raise ValueError("there is no image; give a reference.")
    if isinstance(request.generator, list) and len(request.generator) != num_videos:
        raise ValueError(
            f"{len(request.generator)} generators for {num_videos} videos; give one for each, or one for all."
        )
    _check_latents(pipe, request, num_videos)
    _check_poses(request, num_videos)


def _check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} '{value}' is not known; use one of {', '.join(known)}.")


def _check_latents(pipe: MimicMotionPipeline, request: Request, num_videos: int) -> None:
    if request.latents is None:
        return
    side = pipe.pixels_per_latent
    expected = (pipe.vae.config.latent_channels, request.height // side, request.width // side)
    lengths = {request.tile_size, request.num_frames}
    shape = tuple(request.latents.shape)
    if len(shape) != 5 or shape[0] != num_videos or shape[1] not in lengths or shape[2:] != expected:
        frames = " or ".join(map(str, sorted(lengths)))
        raise ValueError(
            f"latents are {list(shape)}; expected {num_videos} videos x {frames} frames x "
            f"{' x '.join(map(str, expected))}."
        )


def _check_poses(request: Request, num_videos: int) -> None:
    if not request.pose_maps:
        return
    if len(request.pose_maps) not in {1, num_videos}:
        raise ValueError(
            f"{len(request.pose_maps)} clips of poses for {num_videos} videos; give one for each, or one."
        )
    for maps in request.pose_maps:
        length = len(maps) if hasattr(maps, "__len__") else None
        if length is not None and length < request.num_frames:
            raise ValueError(
                f"image_pose has {length} frames, num_frames is {request.num_frames}; use {length} at most."
            )
        drawn = as_pose_tensor(maps([0]))
        if tuple(drawn.shape) != (1, 3, request.height, request.width):
            raise ValueError(
                f"a pose map is {list(drawn.shape[1:])}; expected 3 x {request.height} x {request.width}, "
                "the video's size. Draw the poses at that size, or leave height and width out."
            )
        largest = float(drawn.abs().max())
        if largest > 1.001:
            raise ValueError(
                f"pose maps reach {largest:g}; they have to be in [-1, 1]: uint8 maps / 127.5 - 1."
            )
