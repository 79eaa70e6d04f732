"""Classifier-free guidance: the scale of each frame, and the formula."""

from __future__ import annotations

import torch
from torch import Tensor


def ramp(minimum: float, maximum: float, num_frames: int) -> Tensor:
    """Return scales that change linearly from `minimum` at the first frame to `maximum` at the last; ``F``,
    float32.

    If neither is above 1, guidance is off, as in diffusers: all scales are 1.
    """
    if max(minimum, maximum) <= 1:
        return torch.ones(num_frames)
    return torch.linspace(minimum, maximum, num_frames)


def is_needed(scales: Tensor) -> bool:
    """Whether the unconditional prediction is needed, that is, any scale differs from 1."""
    return bool((scales != 1).any())


def guide(unconditional: Tensor, conditional: Tensor, scales: Tensor) -> Tensor:
    """Compute unconditional + g (conditional - unconditional); both ``B x F x …``, `scales` ``F``."""
    g = scales.to(conditional).view(1, -1, *[1] * (conditional.ndim - 2))
    return unconditional + g * (conditional - unconditional)
