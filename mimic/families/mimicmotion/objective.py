"""MimicMotion's training objective: EDM as Stable Video Diffusion uses it, and its random draws.

Symbols are those of Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(arXiv 2206.00364), table 1, in the form of Stable Video Diffusion's v-prediction (sigma_data = 1). Dropping
conditions for classifier-free guidance and noise augmentation of the reference are here as well.

Legend: B batch, F frames, C latent channels, H x W latent size. sigma has shape B.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def sample_sigma(
    num: int, *, P_mean: float, P_std: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw `num` noise levels with ln(sigma) ~ N(P_mean, P_std^2); float32 ``num``."""
    return (torch.randn(num, generator=generator) * P_std + P_mean).exp()


def c_skip(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1)


def c_out(sigma: Tensor) -> Tensor:
    return -sigma / (sigma**2 + 1).sqrt()


def c_in(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    """Convert noise levels to the network's input: the continuous timestep of `EulerDiscreteScheduler`."""
    return 0.25 * sigma.log()


def loss_weight(sigma: Tensor) -> Tensor:
    """lambda(sigma) = (1 + sigma^2) / sigma^2 = 1 / c_out^2, which weighs the network's output by 1."""
    return (1 + sigma**2) / sigma**2


def as_latent_shape(sigma: Tensor) -> Tensor:
    """Reshape ``B`` to ``B x 1 x 1 x 1 x 1``, for broadcasting over latents."""
    return sigma[:, None, None, None, None]


def denoised(output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Estimate x0 from the network's output F: ``c_skip * x + c_out * F`` (equation 7)."""
    sigma = as_latent_shape(sigma)
    return c_skip(sigma) * noisy + c_out(sigma) * output


def edm_loss(x0_hat: Tensor, x0: Tensor, sigma: Tensor, *, amplification: Tensor | None = None) -> Tensor:
    """Compute the mean of ``lambda(sigma) * amplification * (x0_hat - x0)^2``, a scalar.

    Args:
        x0_hat, x0: ``B x F x C x H x W``.
        sigma: ``B``.
        amplification: factor of each latent pixel, ``B x F x 1 x H x W``; None is 1 everywhere.
    """
    error = loss_weight(as_latent_shape(sigma)) * (x0_hat.float() - x0.float()).square()
    return error.mean() if amplification is None else (error * amplification).mean()


def edm_losses(x0_hat: Tensor, x0: Tensor, sigma: Tensor, *, amplification: Tensor) -> Tensor:
    """Compute `edm_loss` of each sample by itself, ``B``."""
    error = loss_weight(as_latent_shape(sigma)) * (x0_hat.float() - x0.float()).square()
    return (error * amplification).flatten(1).mean(1)


def region_loss(x0_hat: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean of ``lambda(sigma) * (x0_hat - x0)^2`` inside a region, for the log; 0 if it is empty.

    Args:
        x0_hat, x0, sigma: as in `edm_loss`.
        mask: ``B x F x 1 x H x W`` in [0, 1].
    """
    error = loss_weight(as_latent_shape(sigma)) * (x0_hat.float() - x0.float()).square()
    return (error * mask).sum() / (mask.sum() * error.shape[2]).clamp(min=1e-6)


def sample_keeps(
    shares: Mapping[str, float], *, together: bool, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Draw which conditions a sample keeps.

    Args:
        shares: maps each condition to the probability of dropping it.
        together: compare one uniform number with all probabilities, so that equal probabilities drop all
            conditions at once; if false, draw one number for each condition.
        generator: source of randomness.

    Returns:
        for each condition a scalar, 0 if it is dropped, else 1.
    """
    numbers = torch.rand(len(shares), generator=generator)
    if together:
        numbers = numbers[:1].expand(len(shares))
    return {name: (number >= share).float() for (name, share), number in zip(shares.items(), numbers)}


def drop(condition: Tensor, keep: Tensor) -> Tensor:
    """Set a condition to zero for the samples that drop it, as in the unconditional branch of guidance.

    Args:
        condition: ``B x ...``.
        keep: ``B``, 1 or 0.
    """
    return condition * keep.to(condition.dtype).reshape(-1, *(1,) * (condition.ndim - 1))


def sample_noise_aug(
    *, share: float, P_mean: float, P_std: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the strength of the reference's noise, a scalar.

    It is exp(N(P_mean, P_std^2)) with probability `share`, else 0 (Stable Video Diffusion, arXiv 2311.15127,
    appendix D).
    """
    uniform, normal = torch.rand((), generator=generator), torch.randn((), generator=generator)
    return torch.where(uniform < share, (normal * P_std + P_mean).exp(), torch.zeros(()))


def augment_reference(pixels: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
    """Compute ``pixels + strength * noise``: noise augmentation in pixel space, before the VAE.

    Args:
        pixels, noise: ``B x 3 x H x W``, pixels in [-1, 1].
        strength: ``B``.
    """
    return pixels + strength[:, None, None, None] * noise


def added_time_ids(noise_aug: Tensor, *, fps: int, motion_bucket_id: int) -> Tensor:
    """Stack fps - 1 (as SVD was trained), motion bucket id and noise augmentation (``B``) to ``B x 3``."""
    ids = torch.tensor([fps - 1.0, float(motion_bucket_id)], device=noise_aug.device)
    return torch.cat([ids.expand(len(noise_aug), 2), noise_aug[:, None]], dim=1)
