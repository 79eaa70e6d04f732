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
    """Add an offset to the noise that is constant over each channel of each video.

    Args:
        noise: ``B x F x C x h x w`` (or without B), unit normal.
        offset: ``B x 1 x C x 1 x 1``, unit normal.
        strength: factor of the offset; 0 leaves the noise unchanged.

    Returns:
        noise of the same shape.
    """
    return noise + strength * offset


def signal_to_noise(scheduler: DDIMScheduler, t: Tensor) -> Tensor:
    """Compute SNR(t) = alpha_bar / (1 - alpha_bar), ``B``, float32; 0 at the last step of a zero-terminal-SNR
    schedule."""
    alpha_bar = scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
    return alpha_bar / (1 - alpha_bar)


def min_snr_weight(snr: Tensor, gamma: float | None, prediction_type: str) -> Tensor:
    """Compute the min-SNR weight of each sample's loss.

    The weight is min(SNR, gamma) / SNR; for v-prediction, SNR is replaced by SNR + 1. The paper's form for v
    is min(SNR, gamma) / (SNR + 1), which gives the step without any signal, where sampling starts, a weight
    of zero; the published training code adds 1 to the numerator's SNR as well.

    Args:
        snr: signal-to-noise ratios, ``B``.
        gamma: upper bound of the SNR in the numerator, 5 as published; None gives all samples the weight 1.
        prediction_type: of the scheduler, ``epsilon`` or ``v_prediction``.

    Returns:
        weights, ``B``.
    """
    if gamma is None:
        return torch.ones_like(snr)
    base = snr + 1 if prediction_type == "v_prediction" else snr.clamp(min=1e-8)
    return base.clamp(max=gamma) / base
