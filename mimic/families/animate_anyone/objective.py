"""Animate Anyone's training objective: noise with an offset, v-prediction, min-SNR weights.

Noise offset: N. Guttenberg, "Diffusion with Offset Noise" (2023). Min-SNR: Hang et al., arXiv 2303.09556.
Velocity: Salimans & Ho, arXiv 2202.00512; zero terminal SNR: Lin et al., arXiv 2305.08891.

Legend: B batch, F frames, C latent channels, h x w latents; t ``B`` timesteps.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor


def offset_noise(noise: Tensor, offset: Tensor, strength: float) -> Tensor:
    """Noise of which each channel of each video is brighter or darker as a whole.

    Args:
        noise: ``B x F x C x h x w`` (or without B), unit normal.
        offset: ``B x 1 x C x 1 x 1``, unit normal.
        strength: of the offset; 0 leaves the noise as it is.
    """
    return noise + strength * offset


def signal_to_noise(scheduler: DDIMScheduler, t: Tensor) -> Tensor:
    """SNR(t) = alpha_bar / (1 - alpha_bar), ``B``, float32; 0 at the end of a zero-terminal-SNR schedule."""
    alpha_bar = scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
    return alpha_bar / (1 - alpha_bar)


def min_snr_weight(snr: Tensor, gamma: float | None, prediction_type: str) -> Tensor:
    """Weight of each sample's loss, ``B``: min(SNR, gamma) / SNR, with SNR + 1 for SNR where v is predicted.

    The paper's form for v is min(SNR, gamma) / (SNR + 1), under which a step without any signal, where
    sampling starts, would have no weight; the published training adds the one above the line, too.

    Args:
        snr: ``B``.
        gamma: the published 5; None weighs all alike.
        prediction_type: of the scheduler.
    """
    if gamma is None:
        return torch.ones_like(snr)
    base = snr + 1 if prediction_type == "v_prediction" else snr.clamp(min=1e-8)
    return base.clamp(max=gamma) / base
