"""Noise levels of the denoising steps other than the scheduler's own, and the levels of its steps."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from diffusers.schedulers import AysSchedules

SCHEDULES = ("released", "aligned")
"""``released``: the scheduler's own noise levels; ``aligned``: Align Your Steps (arXiv 2404.14507)."""


def set_timesteps(scheduler: Any, num_steps: int, schedule: str) -> None:
    """Set the scheduler's timesteps, on the CPU, so that steps wait for no device.

    Args:
        scheduler: a scheduler of diffusers; for ``aligned`` one that takes sigmas, see `takes_sigmas`.
        num_steps: number of denoising steps.
        schedule: one of `SCHEDULES`.
    """
    if schedule == "aligned":
        sigmas = aligned_sigmas(num_steps, scheduler.config.sigma_max)
        scheduler.set_timesteps(sigmas=[*sigmas, 0.0], device="cpu")
    else:
        scheduler.set_timesteps(num_steps, device="cpu")


def takes_sigmas(scheduler: Any) -> bool:
    """Whether a scheduler takes noise levels, and its config says the highest one."""
    parameters = inspect.signature(scheduler.set_timesteps).parameters
    return "sigmas" in parameters and getattr(scheduler.config, "sigma_max", None) is not None


def aligned_sigmas(num_steps: int, sigma_max: float) -> list[float]:
    """Compute Align Your Steps' noise levels for Stable Video Diffusion, falling, without the last 0.

    For other numbers of steps than the published 10, their logarithms are interpolated linearly, as the
    authors recommend; for another `sigma_max` than 700, they are scaled to it, the lowest level staying.
    """
    published = np.log(AysSchedules["StableDiffusionVideoSigmas"][:-1])
    places = np.linspace(0, len(published) - 1, num_steps)
    levels = np.interp(places, np.arange(len(published)), published)
    stretch = (np.log(sigma_max) - published[-1]) / (published[0] - published[-1])
    return [float(level) for level in np.exp(published[-1] + stretch * (levels - published[-1]))]


def noise_levels(scheduler: Any) -> list[float]:
    """Return sigma, the ratio of noise to signal, of each timestep that is set.

    Raises:
        ValueError: the scheduler has no table of noise levels.
    """
    if getattr(scheduler, "sigmas", None) is not None:
        return [float(sigma) for sigma in scheduler.sigmas[: len(scheduler.timesteps)]]
    if not has_noise_levels(scheduler):
        raise ValueError(f"{type(scheduler).__name__} has no table of noise levels.")
    bars = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
    return [((1 - bar) / bar) ** 0.5 if bar > 0 else float("inf") for bar in bars]


def has_noise_levels(scheduler: Any) -> bool:
    """Whether `noise_levels` knows the scheduler's levels."""
    return any(getattr(scheduler, name, None) is not None for name in ("sigmas", "alphas_cumprod"))
