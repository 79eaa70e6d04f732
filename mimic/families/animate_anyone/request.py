"""What an Animate Anyone run works on, and all that is checked before it starts.

Legend: B batch, F frames, C latent channels, h, w of latents; D width of CLIP's embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import PIL.Image
from torch import Tensor

from mimic.data.pose_maps import PoseMaps
from mimic.families import checks
from mimic.families.base import OUTPUT_TYPES, StepReport
from mimic.families.pose_features import PoseFeatures
from mimic.models.reference import ReferenceBank, reference_blocks
from mimic.sampling.fusion import FUSIONS
from mimic.sampling.noise import NOISE_LENGTHS, Generators

if TYPE_CHECKING:
    from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline


@dataclass(frozen=True)
class Faults:
    """Where the released code is wrong, as switches; the defaults are right."""

    float16_bank: bool = False
    """Round what the reference network saw to float16, whatever the networks' precision."""
    undivided_overlaps: bool = False
    """Without guidance, add up the predictions of overlapping windows and do not divide by their number."""

    @classmethod
    def of(cls, compat: str) -> Faults:
        """``none`` or ``released``.

        Raises:
            ValueError: it is neither.
        """
        checks.check_known("compat", compat, ("none", "released"))
        return cls() if compat == "none" else cls(float16_bank=True, undivided_overlaps=True)


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
    fusion: str
    noise: str
    use_motion: bool
    faults: Faults
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
    banks: list[ReferenceBank]
    """What the reference network saw, for each video."""
    pose_features: PoseFeatures | None


@dataclass(frozen=True)
class Start:
    """Where denoising begins."""

    latents: Tensor
    """``B x F x C x h x w``, float32"""
    timesteps: Tensor


def check_parts(pipe: AnimateAnyonePipeline) -> None:
    """Raise `ValueError` when the components of a pipeline do not fit each other."""
    unet, reference, guider = pipe.unet.config, pipe.reference_unet.config, pipe.pose_guider.config
    channels = pipe.vae.config.latent_channels
    for name, count in (("UNet", unet.in_channels), ("reference network", reference.in_channels)):
        if count != channels:
            raise ValueError(
                f"the {name} takes {count} channels and the VAE's latents have {channels}; use parts of one "
                "model."
            )
    if reference_blocks(pipe.unet) != reference_blocks(pipe.reference_unet):
        raise ValueError(
            f"the reference network has blocks of {tuple(reference.block_out_channels)} channels, the UNet "
            f"of {tuple(unet.block_out_channels)}; each block of the one is read by its like in the other."
        )
    if guider.noise_latent_channels != unet.block_out_channels[0]:
        raise ValueError(
            f"the pose guider gives {guider.noise_latent_channels} channels, the UNet's first convolution "
            f"{unet.block_out_channels[0]}; they are added, so build it with noise_latent_channels="
            f"{unet.block_out_channels[0]}."
        )
    if pipe.pose_guider.downscale != pipe.pixels_per_latent:
        raise ValueError(
            f"the pose guider makes maps {pipe.pose_guider.downscale}x smaller, the VAE makes latents "
            f"{pipe.pixels_per_latent}x smaller; they have to be the same."
        )
    width = pipe.image_encoder.config.projection_dim
    if width != unet.cross_attention_dim:
        raise ValueError(
            f"the image encoder's embedding is {width} wide, the UNet takes {unet.cross_attention_dim}."
        )


def check_request(pipe: AnimateAnyonePipeline, request: Request) -> None:
    """Raise `ValueError` for a request that the pipeline cannot fulfil."""
    checks.check_size(request.height, request.width, pipe.pixels_per_latent)
    checks.check_known("output_type", request.output_type, OUTPUT_TYPES)
    checks.check_known("fusion", request.fusion, tuple(FUSIONS))
    checks.check_known("noise", request.noise, NOISE_LENGTHS)
    checks.check_counts(
        num_inference_steps=request.num_inference_steps, decode_chunk_size=request.decode_chunk_size
    )
    longest, most = len(request.windows[0]), pipe.unet.config.motion_max_seq_length
    if request.use_motion and longest > most:
        raise ValueError(
            f"a window has {longest} frames, and the motion modules know {most} positions; use tile_size: "
            f"{most} at most."
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
