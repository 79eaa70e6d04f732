"""Shared training code of families based on Stable Diffusion: stages, timesteps, the prediction target.

Legend: B batch, F frames, C latent channels, h x w latents; t ``B`` timesteps.
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from mimic.config.loading import ConfigError
from mimic.families.task import Objective
from mimic.models.reference import ReferenceBank


class StagedObjective(Objective):
    """The `objective:` of a training YAML for two-stage training on discrete timesteps."""

    stage: Literal[1, 2] = 1
    """Stage of training. 1: single frames, without temporal layers; 2: clips, with temporal layers."""
    timesteps: tuple[int, int] | None = None
    """Range [first, end) from which timesteps are drawn uniformly; null: all timesteps of the scheduler."""


def draw_timestep(num_steps: int, chosen: tuple[int, int] | None, generator: torch.Generator) -> Tensor:
    """Draw a timestep (int64 scalar) uniformly.

    Args:
        num_steps: number of timesteps of the scheduler.
        chosen: range (first, end) to draw from, `end` excluded; None draws from all.
        generator: source of randomness, on the CPU.

    Raises:
        ConfigError: `chosen` is empty or outside the scheduler's timesteps (a `ValueError`).
    """
    first, end = chosen or (0, num_steps)
    if not 0 <= first < end <= num_steps:
        raise ConfigError(
            f"objective.timesteps is [{first}, {end}]; expected 0 <= first < second <= {num_steps}, the "
            "scheduler's number"
        )
    return torch.randint(first, end, (), generator=generator)


def fixed_timesteps(num_steps: int, chosen: tuple[int, int] | None) -> dict[str, Tensor]:
    """Return four timesteps at the middles of the quarters of those that are drawn, by names for the log."""
    first, end = chosen or (0, num_steps)
    steps = [first + (end - first) * (2 * quarter + 1) // 8 for quarter in range(4)]
    return {f"t_{step}": torch.tensor(step) for step in steps}


def noised(scheduler: DDIMScheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Add noise: ``sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps`` (DDPM, arXiv 2006.11239, equation 4).

    Args:
        scheduler: `DDIMScheduler` or another diffusers scheduler with discrete timesteps.
        x0, eps: ``B x F x C x h x w``.
        t: ``B``.
    """
    return scheduler.add_noise(x0, eps, t)


def target_of(scheduler: DDIMScheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return the target of the prediction: eps, or v (arXiv 2202.00512), by the scheduler's prediction type.

    Args:
        scheduler: a diffusers scheduler with discrete timesteps.
        x0, eps: ``B x F x C x h x w``.
        t: ``B``.

    Raises:
        ValueError: the scheduler has another prediction type.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return eps
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    raise ValueError(f"the scheduler's prediction_type is {kind}; use epsilon or v_prediction.")


def denoised(scheduler: DDIMScheduler, v: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    """Estimate x0 from a prediction of v: ``sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v`` (arXiv
    2202.00512, appendix D).

    Args:
        scheduler: a diffusers scheduler with discrete timesteps.
        v, noisy: ``B x F x C x h x w``.
        t: ``B``.
    """
    # As v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0, with x_t in place of eps and v in place of x0.
    return scheduler.get_velocity(v, noisy, t)


def check_decoded(settings: Objective, scheduler: DDIMScheduler) -> None:
    """Check that a model whose prediction is to be decoded predicts v.

    Raises:
        ConfigError: it predicts the noise, from which x0 cannot be told where there is nothing but noise (a
            `ValueError`).
    """
    if settings.decoded_weight and scheduler.config.prediction_type != "v_prediction":
        raise ConfigError(
            f"objective.decoded_weight is {settings.decoded_weight:g}, which needs a model with "
            f"prediction_type v_prediction; this one has {scheduler.config.prediction_type}. Set it to 0"
        )


def zero_of(bank: ReferenceBank) -> Tensor | float:
    """Return a zero that depends on all features of a bank.

    It is added to the loss when every sample of a batch drops the reference: the reference network then gets
    a gradient of zero, and all processes of a distributed training reduce the same parameters.
    """
    return 0 * sum(value.float().sum() for value in bank.features.values())
