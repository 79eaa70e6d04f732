"""MagicAnimate's training objective: choose the picture or clip that a sample trains on.

Equations and symbols of arXiv 2311.16498, sections 3.1 to 3.4: stage 1 trains without temporal layers,
``L1 = E |eps - eps_theta|^2``; stage 2 trains the temporal attention alone, on pictures and clips together.

Legend: B batch, F frames, C latent channels; h x w latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

RECONSTRUCTION, PICTURE, CLIP = 0, 1, 2
"""Target of a sample: the reference itself in its own pose (i = ref), another picture (i != ref), or the
clip."""


def choose(r: Tensor, stage: int, *, tau_0: float, tau_1: float, tau_2: float) -> Tensor:
    """Choose the target of each sample: `RECONSTRUCTION`, `PICTURE` or `CLIP`.

    Stage 1 has no clips: every frame is a single picture. Stage 2 follows equation (5) of the paper.

    Args:
        r: random numbers, uniform in [0, 1), one for each sample.
        stage: 1 or 2.
        tau_0: stage 1: up to `tau_0`, reconstruction; else a picture.
        tau_1, tau_2: stage 2: up to `tau_1`, reconstruction; up to `tau_2`, a picture; else the clip.
    """
    if stage == 1:
        return torch.where(r <= tau_0, RECONSTRUCTION, PICTURE)
    return torch.where(r <= tau_1, RECONSTRUCTION, torch.where(r <= tau_2, PICTURE, CLIP))
