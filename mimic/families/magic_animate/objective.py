"""MagicAnimate's training objective: which picture or clip a sample trains on.

Equations and symbols of arXiv 2311.16498, sections 3.1 to 3.4: stage 1 trains without temporal layers,
``L1 = E |eps - eps_theta|^2``; stage 2 trains the temporal attention alone, on pictures and clips together.

Legend: B batch, F frames, C latent channels; h x w latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

RECONSTRUCTION, PICTURE, CLIP = 0, 1, 2
"""What a sample trains with: the reference itself in its own pose (i = ref), another picture (i != ref), or
the clip."""


def choose(r: Tensor, stage: int, *, tau_0: float, tau_1: float, tau_2: float) -> Tensor:
    """What samples train with, given r, uniform in [0, 1): `RECONSTRUCTION`, `PICTURE` or `CLIP`.

    Stage 1 has no clips: every frame is a single picture. Stage 2 is the paper's equation (5).
    """
    if stage == 1:
        return torch.where(r <= tau_0, RECONSTRUCTION, PICTURE)
    return torch.where(r <= tau_1, RECONSTRUCTION, torch.where(r <= tau_2, PICTURE, CLIP))
