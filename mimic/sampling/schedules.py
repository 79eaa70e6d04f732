"""Noise levels of the denoising steps other than the scheduler's own, and the levels of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers.schedulers import AysSchedules

_SVD_SIGMA_MAX = 700.0


def aligned_sigmas(num_steps: int, sigma_max: float | None = None) -> list[float]:
    """Compute Align Your Steps' noise levels for Stable Video Diffusion, falling, without the last 0.

    For other numbers of steps than the published 10, their logarithms are interpolated linearly, as the
    authors recommend; for another `sigma_max` than 700 (None), they are scaled to it, the lowest level
    staying.
    """
    published = np.log(AysSchedules["StableDiffusionVideoSigmas"][:-1])
    places = np.linspace(0, len(published) - 1, num_steps)
    levels = np.interp(places, np.arange(len(published)), published)
    stretch = (np.log(sigma_max or _SVD_SIGMA_MAX) - published[-1]) / (published[0] - published[-1])
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
