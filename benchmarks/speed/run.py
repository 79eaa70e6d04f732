"""MimicMotion's sampling from its networks alone, in the way of the released code and in ours.

It needs no more than torch, diffusers, transformers, safetensors, numpy, Pillow and tqdm, so that it runs on
machines where mimic is not installed.

Legend: F frames, C latent channels, H x W pixels, h x w latents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from mimic.families.pose_features import PoseFeatures
from mimic.families.schedulers import set_timesteps
from mimic.models.attention import attention_layers
from mimic.models.deep_features import FeatureReuse
from mimic.models.speed import exact_speed
from mimic.models.vae import decode_frames
from mimic.sampling import guidance
from mimic.sampling.denoise import denoise
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.schedules import aligned_sigmas, noise_levels
from mimic.sampling.windows import lay_windows


@dataclass
class Parts:
    """Networks and scheduler of MimicMotion, on one device in one precision."""

    unet: Any
    pose_net: Any
    vae: Any
    scheduler: Any
    scaling_factor: float = 0.18215


@dataclass(frozen=True)
class Job:
    """What is computed."""

    num_frames: int
    """Frames of the latents, the reference's included."""
    tile_size: int
    tile_overlap: int
    num_steps: int
    chunk: int = 8
    """Frames decoded together."""
    min_guidance: float = 2.0
    max_guidance: float = 2.0
    time_ids: tuple[float, float, float] = (6, 127, 0.0)
    fusion: str = "released"

    @property
    def windows(self) -> list[list[int]]:
        return lay_windows(self.num_frames, self.tile_size, self.tile_overlap, "reference")


@dataclass(frozen=True)
class Way:
    """How it is computed. The default is ours for large windows, eager; `BASELINE` is that of the released
    code."""

    is_baseline: bool = False
    is_compiled: bool = False
    batches_guidance: bool = False
    is_optimized: bool = True
    schedule: str = "released"
    guidance_interval: tuple[float, float] | None = None
    reuse_interval: int = 1
    pose_budget: int = 2**29
    feature_budget: int = 2**32


BASELINE = Way(is_baseline=True)


@dataclass(frozen=True)
class Given:
    """Conditions and noise, in the networks' precision and on their device."""

    embedding: Tensor
    """``1 x 1 x D``"""
    reference: Tensor
    """``1 x C x h x w``"""
    poses: Tensor
    """Pose maps, ``F x 3 x H x W`` in [-1, 1]."""
    noise: Tensor
    """``1 x F x C x h x w``, unit normal, float32."""


class StockAttention(AttnProcessor2_0):
    """diffusers' own processor, under a name that our layers do not replace."""


@dataclass
class Clock:
    """Seconds by stage; waits for the device before and after."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def measured(self, name: str, call: Callable[[], Any]) -> Any:
        wait_for(self.device)
        start = time.perf_counter()
        result = call()
        wait_for(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result


def wait_for(device: torch.device) -> None:
    """Wait until the device has computed all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_inputs(parts: Parts, job: Job, height: int, width: int, *, seed: int = 0) -> Given:
    """Draw inputs for pictures of a size in pixels."""
    unet = parts.unet
    side = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    channels = parts.vae.config.latent_channels
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    place = {"device": unet.device, "dtype": unet.dtype}
    size = height // side, width // side
    noise = normal(1, job.tile_size, channels, *size)
    return Given(
        normal(1, 1, unet.config.cross_attention_dim).to(**place),
        normal(1, channels, *size).to(**place),
        normal(job.num_frames, 3, height, width).clamp(-1, 1).to(**place),
        noise[:, torch.arange(job.num_frames) % job.tile_size].to(unet.device),
    )


@torch.no_grad()
def sample(parts: Parts, job: Job, given: Given, way: Way = Way()) -> Tensor:
    """Denoise all frames; return latents ``1 x F x C x h x w``."""
    if way.is_baseline:
        return _sample_as_released(parts, job, given)
    unet, scheduler = parts.unet, parts.scheduler
    sigmas = aligned_sigmas(job.num_steps, scheduler.config.sigma_max) if way.schedule == "aligned" else None
    set_timesteps(scheduler, "continuous", job.num_steps, sigmas=sigmas, device="cpu")
    levels = noise_levels(scheduler)
    features = PoseFeatures(
        parts.pose_net,
        [lambda frames: given.poses[frames]],
        device=unet.device,
        dtype=unet.dtype,
        budget_bytes=way.pose_budget,
    )
    reuse = FeatureReuse(way.reuse_interval, way.feature_budget) if way.reuse_interval > 1 else None
    scales = guidance.ramp(job.min_guidance, job.max_guidance, job.num_frames)
    scales_of = {tuple(window): scales[window].to(unet.device) for window in job.windows}
    step = 0

    def branches(latents: Tensor, t: Tensor, frames: list[int], kinds: tuple[bool, ...]) -> Tensor:
        pose = features(frames)[0]
        deep = None if reuse is None else reuse(step, (*frames, kinds))
        return _predicted(
            parts,
            job,
            given,
            latents,
            t,
            kinds,
            pose_latents=torch.cat([pose if kind else torch.zeros_like(pose) for kind in kinds])
            if any(kinds)
            else None,
            deep_features=deep,
        )

    is_guided = guidance.is_needed(scales)
    low, high = way.guidance_interval or (0.0, float("inf"))

    def predict(latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
        own = latents.to(unet.dtype)
        if not is_guided or not low <= levels[step] <= high:
            return branches(own, t, frames, (True,))
        if way.batches_guidance:
            both = branches(own, t, frames, (False, True))
            return guidance.guide(both[:1], both[1:], scales_of[tuple(frames)])
        conditional = branches(own, t, frames, (True,))
        return guidance.guide(branches(own, t, frames, (False,)), conditional, scales_of[tuple(frames)])

    def after_step(i: int, t: Tensor, latents: Tensor) -> Tensor:
        nonlocal step
        step = i + 1
        return latents

    ways: AbstractContextManager[None] = nullcontext()
    if way.is_optimized:
        ways = exact_speed(unet, single_token=True, is_compiled=way.is_compiled)
    with ways:
        return denoise(
            predict,
            given.noise.float() * scheduler.init_noise_sigma,
            scheduler=scheduler,
            timesteps=scheduler.timesteps,
            windows=job.windows,
            weights=fusion_weights(job.windows, job.fusion),
            after_step=after_step,
        )


def _predicted(
    parts: Parts,
    job: Job,
    given: Given,
    latents: Tensor,
    t: Tensor,
    kinds: tuple[bool, ...],
    **arguments: Any,
) -> Tensor:
    """Run the UNet on branches of guidance: with the conditions (True) or without."""
    unet = parts.unet
    embeddings = [given.embedding if kind else torch.zeros_like(given.embedding) for kind in kinds]
    reference = torch.cat([given.reference if kind else torch.zeros_like(given.reference) for kind in kinds])
    num_frames = latents.shape[1]
    noisy = latents.expand(len(kinds), -1, -1, -1, -1)
    return unet(
        torch.cat([noisy, reference[:, None].expand(-1, num_frames, -1, -1, -1)], dim=2),
        t,
        encoder_hidden_states=torch.cat(embeddings),
        added_time_ids=torch.tensor([job.time_ids] * len(kinds), device=unet.device, dtype=unet.dtype),
        return_dict=False,
        **arguments,
    )[0].float()


def _sample_as_released(parts: Parts, job: Job, given: Given) -> Tensor:
    """Two passes for each tile, PoseNet for every tile of every step, diffusers' own processors."""
    unet, scheduler = parts.unet, parts.scheduler
    scheduler.set_timesteps(job.num_steps, device=unet.device)
    latents = given.noise.float() * scheduler.init_noise_sigma
    scales = guidance.ramp(job.min_guidance, job.max_guidance, job.num_frames).to(unet.device)
    layers = attention_layers(unet)
    former = [layer.processor for layer in layers]
    for layer in layers:
        layer.processor = StockAttention()
    try:
        for t in scheduler.timesteps:
            model_input = scheduler.scale_model_input(latents, t)
            total, weights = torch.zeros_like(latents), torch.zeros(job.num_frames, device=unet.device)
            for window in job.windows:
                own = model_input[:, window].to(unet.dtype)
                pose = parts.pose_net(given.poses[window])
                without = _predicted(parts, job, given, own, t, (False,))
                conditional = _predicted(parts, job, given, own, t, (True,), pose_latents=pose)
                predicted = guidance.guide(without, conditional, scales[window])
                u = 2 * (torch.arange(len(window), device=unet.device) + 0.5) / len(window)
                weight = torch.minimum(u, 2 - u)
                total[:, window] += predicted * weight.view(1, -1, 1, 1, 1)
                weights[window] += weight
            latents = scheduler.step(total / weights.view(1, -1, 1, 1, 1), t, latents).prev_sample
    finally:
        for layer, processor in zip(layers, former):
            layer.processor = processor
    return latents


@torch.no_grad()
def decode(parts: Parts, job: Job, latents: Tensor, way: Way = Way()) -> int:
    """Decode all frames to bytes on the CPU, all held together as the released code does or chunk by chunk.

    Returns:
        number of bytes of the frames.
    """
    chunks = decode_frames(
        parts.vae,
        latents[0].to(parts.vae.dtype),
        job.chunk,
        optimize=way.is_optimized and not way.is_baseline,
    )
    if way.is_baseline:
        held = torch.cat([chunk.cpu() for chunk in chunks])
        return len(_bytes_of(held).tobytes())
    return sum(_bytes_of(chunk).nbytes for chunk in chunks)


def _bytes_of(frames: Tensor) -> np.ndarray[Any, Any]:
    return ((frames / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def whole(parts: Parts, job: Job, given: Given, way: Way) -> tuple[Tensor, Mapping[str, float]]:
    """Sample and decode; return latents, and seconds by stage."""
    clock = Clock(torch.device(parts.unet.device))
    latents = clock.measured("denoising", lambda: sample(parts, job, given, way))
    clock.measured("decoding", lambda: decode(parts, job, latents, way))
    return latents, clock.seconds


def relative_error(one: Tensor, other: Tensor) -> float:
    """Norm of the difference of two tensors, relative to that of the second."""
    return float((one - other).float().norm() / other.float().norm())


def with_steps(job: Job, num_steps: int) -> Job:
    """The same job with another number of steps."""
    return replace(job, num_steps=num_steps)


def parameters_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
