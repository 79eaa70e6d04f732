"""A fourth family for inference alone: one convolution that sees latents, reference and maps side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import DDIMScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mimic.config.sampling import SamplingSettings
from mimic.data.pose_maps import MapDrawer, as_pose_tensor
from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationPipeline
from mimic.families.family import Family
from mimic.families.inputs import Inputs
from mimic.families.plan import Plan
from mimic.families.step_pipeline import Branches, Window
from mimic.models.mini import MiniTemporalVAE
from mimic.models.vae import encode_images

FAMILY = Family(
    name="toy",
    pipeline="tests.mimic.families.toy:ToyPipeline",
    tiny="tests.mimic.families.toy:tiny_pipeline",
)


class ToyDenoiser(ModelMixin, ConfigMixin):
    """Noisy latents, the reference's latents and maps at their size to a prediction; frame by frame."""

    @register_to_config
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels + 3, channels, 3, padding=1)

    def forward(self, latents_FChw: Tensor, reference_FChw: Tensor, maps_F3hw: Tensor) -> Tensor:
        return torch.tanh(self.conv(torch.cat([latents_FChw, reference_FChw, maps_F3hw], dim=1)))


class ToySettings(SamplingSettings):
    """The shared settings and one more."""

    map_strength: float | None = Field(None, ge=0)
    """Factor of the maps."""


@dataclass(frozen=True)
class Conditions:
    reference_latents: Tensor
    """``B x C x h x w``"""
    maps: list[MapDrawer]


class ToyPipeline(AnimationPipeline[ToySettings, Conditions]):
    """Shows what a family has to say for itself, and nothing else."""

    model_cpu_offload_seq = "denoising_net->vae"
    Settings = ToySettings
    layouts = ("sliding", "closed")
    shows_reference_first = False
    released: ClassVar = {
        "height": 16, "width": 24, "tile_size": 4, "tile_overlap": 1, "windows": "sliding",
        "num_inference_steps": 4, "min_guidance_scale": 1.5, "max_guidance_scale": 1.5, "map_strength": 1.0,
        "decode_chunk_size": 4, "fusion": "average", "noise": "full",
    }  # fmt: skip

    def __init__(self, vae: MiniTemporalVAE, denoising_net: ToyDenoiser, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(vae=vae, denoising_net=denoising_net, scheduler=scheduler)

    @property
    def denoiser(self) -> ToyDenoiser:
        return self.denoising_net

    @property
    def size_unit(self) -> int:
        return self.pixels_per_latent

    def check_parts(self) -> None:
        if self.denoising_net.config.channels != self.vae.config.latent_channels:
            raise ValueError("denoiser and VAE have other numbers of channels; use parts of the same model.")

    def encode(self, inputs: Inputs, plan: Plan[ToySettings]) -> Conditions:
        size = (plan.height, plan.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in inputs.pictures])
        latents = encode_images(self.vae, pictures.to(self.execution_device) * 2 - 1)
        return Conditions(latents.to(self.denoiser.dtype), inputs.pose_maps)

    def predict_window(
        self,
        conditions: Conditions,
        plan: Plan[ToySettings],
        window: Window,
        branches: Branches,
    ) -> Tensor:
        latents = window.latents[0]
        reference = conditions.reference_latents[window.video].expand_as(latents)
        maps = latents.new_zeros(len(window.frames), 3, *latents.shape[2:])
        if conditions.maps:
            drawer = conditions.maps[window.video % len(conditions.maps)]
            drawn = as_pose_tensor(drawer(window.frames)).to(latents)
            maps = functional.adaptive_avg_pool2d(drawn, latents.shape[2:]) * plan.settings.map_strength
        shown = [reference if each else torch.zeros_like(reference) for each in branches]
        return torch.stack([self.denoising_net(latents, each, maps) for each in shown]).float()


def tiny_pipeline(*, height: int, width: int, seed: int) -> ToyPipeline:
    """Random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = MiniTemporalVAE(block_out_channels=(32, 32, 32)), ToyDenoiser()
    for part in parts:
        part.eval()
    pipeline = ToyPipeline(*parts, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    pipeline.generation_defaults = {"height": height, "width": width}
    return pipeline
