"""Classifier-free guidance: how much of it each frame gets at a noise level, and the formula."""

from __future__ import annotations

import torch
from torch import Tensor


def ramp(minimum: float, maximum: float, num_frames: int) -> Tensor:
    """Scales that go linearly from the first frame's to the last frame's; ``F``, float32.

    When neither is above 1 guidance is off, as everywhere in diffusers: all scales are 1.
    """
    if max(minimum, maximum) <= 1:
        return torch.ones(num_frames)
    return torch.linspace(minimum, maximum, num_frames)


def within_interval(scales: Tensor, sigma: float, interval: tuple[float, float] | None) -> Tensor:
    """`scales` while the noise level is inside [low, high], no guidance (1) outside; None is everywhere.

    Limiting guidance to middle noise levels: Kynkäänniemi et al. 2024, arXiv 2404.07724.
    """
    if interval is None or interval[0] <= sigma <= interval[1]:
        return scales
    return torch.ones_like(scales)


def is_needed(scales: Tensor) -> bool:
    """Whether the unconditional pass is of any use: not when every scale is exactly 1."""
    return bool((scales != 1).any())


def guide(unconditional: Tensor, conditional: Tensor, scales: Tensor) -> Tensor:
    """unconditional + g (conditional - unconditional); both ``B x F x …``, `scales` ``F``."""
    g = scales.to(conditional).view(1, -1, *[1] * (conditional.ndim - 2))
    return unconditional + g * (conditional - unconditional)
