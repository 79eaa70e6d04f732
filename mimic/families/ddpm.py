"""What the training of families on Stable Diffusion shares: stages, timesteps, the prediction's target.

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
    """The `objective:` of a training in two stages on a schedule of discrete timesteps."""

    stage: Literal[1, 2] = 1
    """1: single frames, no temporal layers. 2: clips, through the temporal layers."""
    timesteps: tuple[int, int] | None = None
    """Draw timesteps from the first to before the second of these; none: all that the scheduler has."""


def draw_timestep(num_steps: int, chosen: tuple[int, int] | None, generator: torch.Generator) -> Tensor:
    """Draw a timestep (int64 scalar) uniformly from all `num_steps`, or from `chosen` (first, end).

    Raises:
        ConfigError: there are no such timesteps.
    """
    first, end = chosen or (0, num_steps)
    if not 0 <= first < end <= num_steps:
        raise ConfigError(
            f"objective.timesteps is [{first}, {end}]; expected 0 <= first < second <= {num_steps}, the "
            "scheduler's number"
        )
    return torch.randint(first, end, (), generator=generator)


def noised(scheduler: DDIMScheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """``sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps`` (DDPM, arXiv 2006.11239, equation 4).

    Args:
        scheduler: `DDIMScheduler` or another of diffusers' with discrete timesteps.
        x0, eps: ``B x F x C x h x w``.
        t: ``B``.
    """
    return scheduler.add_noise(x0, eps, t)


def target_of(scheduler: DDIMScheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What the network is to predict: eps, or v (arXiv 2202.00512) where the scheduler says so.

    Raises:
        ValueError: the scheduler predicts something else.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return eps
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    raise ValueError(f"the scheduler predicts {kind}; training supports epsilon and v_prediction.")


def zero_of(bank: ReferenceBank) -> Tensor | float:
    """A zero that depends on all features of a bank.

    Added to the loss where every sample drops the reference, it gives the reference network a gradient of
    zero, so that all processes of a distributed training reduce the same parameters.
    """
    return 0 * sum(value.float().sum() for value in bank.features.values())
