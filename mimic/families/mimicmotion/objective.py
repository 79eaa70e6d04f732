"""MimicMotion's training objective: EDM as Stable Video Diffusion uses it, with regional loss amplification.

Symbols are those of Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(arXiv 2206.00364), table 1, with the v-prediction column of Stable Video Diffusion (sigma_data = 1);
the amplification is MimicMotion's (arXiv 2406.19680), section 3.4.

Legend: B batch, F frames, C latent channels, H x W latent size. sigma has shape B.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def sample_sigma(
    num: int, *, P_mean: float, P_std: float, generator: torch.Generator | None = None
) -> Tensor:
    """Noise levels with ln(sigma) ~ N(P_mean, P_std^2); float32 ``num``."""
    return (torch.randn(num, generator=generator) * P_std + P_mean).exp()


def c_skip(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1)


def c_out(sigma: Tensor) -> Tensor:
    return -sigma / (sigma**2 + 1).sqrt()


def c_in(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    """What the network is told of the noise: the continuous timestep of `EulerDiscreteScheduler`."""
    return 0.25 * sigma.log()


def loss_weight(sigma: Tensor) -> Tensor:
    """lambda(sigma) = (1 + sigma^2) / sigma^2 = 1 / c_out^2: unit weight of the network's own output."""
    return (1 + sigma**2) / sigma**2


def as_latent_shape(sigma: Tensor) -> Tensor:
    """``B`` to ``B x 1 x 1 x 1 x 1``, to multiply latents with."""
    return sigma[:, None, None, None, None]


def denoised(output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """x0 estimated from the network's output F: ``c_skip * x + c_out * F`` (equation 7)."""
    sigma = as_latent_shape(sigma)
    return c_skip(sigma) * noisy + c_out(sigma) * output


def edm_loss(x0_hat: Tensor, x0: Tensor, sigma: Tensor, *, amplification: Tensor | None = None) -> Tensor:
    """Mean of ``lambda(sigma) * amplification * (x0_hat - x0)^2``.

    Args:
        x0_hat, x0: ``B x F x C x H x W``.
        sigma: ``B``.
        amplification: factor for every latent pixel, ``B x F x 1 x H x W``; None is 1 everywhere.
    """
    error = loss_weight(as_latent_shape(sigma)) * (x0_hat.float() - x0.float()).square()
    return error.mean() if amplification is None else (error * amplification).mean()


def amplify(masks: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """Regional loss amplification: 1 outside, the region's factor inside, the largest where regions overlap.

    Args:
        masks: region's name to a mask in [0, 1] of ``B x F x 1 x H x W``; fractions amplify in proportion.
        factors: region's name to its factor (the paper's w_hand is 10).

    Raises:
        KeyError: a factor names a region that has no mask.
    """
    total: Tensor | None = None
    for name, factor in factors.items():
        region = 1 + (factor - 1) * masks[name]
        total = region if total is None else torch.maximum(total, region)
    if total is None:
        raise KeyError("regional loss amplification needs at least one region's factor")
    return total
