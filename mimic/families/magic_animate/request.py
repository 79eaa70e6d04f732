"""What a MagicAnimate run works on, and all that is checked before it starts.

Legend: B batch, F frames, C latent channels, h, w of latents; L tokens of the text, D their width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import PIL.Image
from torch import Tensor

from mimic.data.pose_maps import PoseMaps
from mimic.families import checks
from mimic.families.base import OUTPUT_TYPES, StepReport
from mimic.sampling.fusion import FUSIONS
from mimic.sampling.noise import NOISE_LENGTHS, Generators

if TYPE_CHECKING:
    from mimic.families.magic_animate.pipeline import MagicAnimatePipeline

RELEASED_NOISE_FRAMES = 16


@dataclass(frozen=True)
class Faults:
    """Where the released code is wrong or narrow, as switches; the defaults are right."""

    float16_bank: bool = False
    """Round what the appearance encoder saw to float16, whatever the networks' precision."""
    sixteen_frames: bool = False
    """Draw 16 frames of noise whatever the window, and take only clips of a multiple of 16 frames."""

    @classmethod
    def of(cls, compat: str) -> Faults:
        """``none`` or ``released``.

        Raises:
            ValueError: it is neither.
        """
        checks.check_known("compat", compat, ("none", "released"))
        return cls() if compat == "none" else cls(float16_bank=True, sixteen_frames=True)


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
    window: int
    windows: list[list[int]]
    num_inference_steps: int
    guidance_scales: Tensor
    """``F``"""
    control_scale: float
    fusion: str
    noise: str
    faults: Faults
    generator: Generators
    latents: Tensor | None
    prompt_embeds: Tensor | None
    """``1 x L x D``; None takes the model's own."""
    negative_prompt_embeds: Tensor | None
    output_type: str
    decode_chunk_size: int
    step_report: StepReport


@dataclass(frozen=True)
class Conditions:
    """What stays the same throughout a run."""

    reference_latents: Tensor
    """``B x C x h x w``, times the scaling factor"""
    text: Tensor
    """``1 x L x D``"""
    unconditional_text: Tensor
    """``1 x L x D``"""


@dataclass(frozen=True)
class Start:
    """Where denoising begins."""

    latents: Tensor
    """``B x F x C x h x w``, float32"""
    timesteps: Tensor


def check_parts(pipe: MagicAnimatePipeline) -> None:
    """Raise `ValueError` when the components of a pipeline do not fit each other."""
    channels = {
        "UNet": pipe.unet.config.in_channels,
        "ControlNet": pipe.controlnet.config.in_channels,
        "appearance encoder": pipe.appearance_encoder.config.in_channels,
    }
    for name, count in channels.items():
        if count != pipe.vae.config.latent_channels:
            raise ValueError(
                f"the {name} takes {count} channels and the VAE's latents have "
                f"{pipe.vae.config.latent_channels}; use parts of one model."
            )
    widths = {
        "ControlNet": pipe.controlnet.config.block_out_channels,
        "appearance encoder": pipe.appearance_encoder.config.block_out_channels,
    }
    for name, width in widths.items():
        if tuple(width) != tuple(pipe.unet.config.block_out_channels):
            raise ValueError(
                f"the {name} has blocks of {tuple(width)} channels, the UNet of "
                f"{tuple(pipe.unet.config.block_out_channels)}; they have to be the same."
            )
    if pipe.prompt_embedding.config.width != pipe.unet.config.cross_attention_dim:
        raise ValueError(
            f"the text embedding is {pipe.prompt_embedding.config.width} wide, the UNet takes "
            f"{pipe.unet.config.cross_attention_dim}."
        )
    shrinks = 2 ** (len(pipe.controlnet.config.conditioning_embedding_out_channels) - 1)
    if shrinks != pipe.pixels_per_latent:
        raise ValueError(
            f"the ControlNet makes maps {shrinks}x smaller, the VAE makes latents {pipe.pixels_per_latent}x "
            "smaller; build it with one conditioning_embedding_out_channels more than there are halvings."
        )


def check_request(pipe: MagicAnimatePipeline, request: Request) -> None:
    """Raise `ValueError` for a request that the pipeline cannot fulfil."""
    checks.check_size(request.height, request.width, pipe.pixels_per_latent)
    checks.check_known("output_type", request.output_type, OUTPUT_TYPES)
    checks.check_known("fusion", request.fusion, tuple(FUSIONS))
    checks.check_known("noise", request.noise, NOISE_LENGTHS)
    checks.check_counts(
        num_inference_steps=request.num_inference_steps, decode_chunk_size=request.decode_chunk_size
    )
    most = pipe.unet.config.motion_max_seq_length
    if len(request.windows[0]) > most:
        raise ValueError(
            f"a window has {len(request.windows[0])} frames, and the temporal attention knows {most} "
            f"positions; use tile_size: {most} at most."
        )
    if request.faults.sixteen_frames and request.num_frames % RELEASED_NOISE_FRAMES:
        raise ValueError(
            f"num_frames is {request.num_frames}; compat: released takes nothing but multiples of "
            f"{RELEASED_NOISE_FRAMES}, as the released code does. Leave compat out, or change num_frames."
        )
    checks.check_videos(len(request.pictures), request.generator)
    checks.check_latents(
        request.latents,
        num_videos=len(request.pictures),
        lengths={request.window, request.num_frames},
        shape=pipe.latent_shape(request.height, request.width),
    )
    checks.check_pose_maps(
        request.pose_maps,
        num_videos=len(request.pictures),
        num_frames=request.num_frames,
        height=request.height,
        width=request.width,
    )
    width = pipe.unet.config.cross_attention_dim
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        given = getattr(request, name)
        if given is not None and (given.ndim != 3 or len(given) != 1 or given.shape[2] != width):
            raise ValueError(f"{name} is {list(given.shape)}; expected 1 x tokens x {width}.")
