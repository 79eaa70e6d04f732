"""Latents that a UNet already knows, kept while a VAE for pictures of twice the size learns.

The larger VAE halves once more than the smaller one and has more latent channels: the first of them are those
of the smaller one for the picture at half size, the others are free to hold what a picture of twice the size
shows in addition. A denoiser trained on the smaller one's latents then begins with all that it knows
(`mimic.miniature.other_vae`), in the spirit of Net2Net (Chen et al., 2016).

Legend: B pictures, H x W their size, h x w latents' size, K channels of the smaller VAE, C of the larger.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def half_size(pictures: Tensor) -> Tensor:
    """Average over 2 x 2 pixels, ``B x 3 x H x W`` to ``B x 3 x H/2 x W/2``."""
    return functional.avg_pool2d(pictures, 2)


def kept_latents_loss(latents: Tensor, kept: Tensor) -> Tensor:
    """How far are the first channels from the source's latents, and the others' spread from theirs?

    A denoiser scales all channels by one factor, so the spare ones should spread as the kept ones do.

    Args:
        latents: means of the larger VAE, ``B x C x h x w``.
        kept: means of the source for the pictures at half size, ``B x K x h x w``.
    """
    K = kept.shape[1]
    loss = (latents[:, :K] - kept).square().mean() / kept.var()
    if latents.shape[1] > K:
        spread = latents[:, K:].std(dim=(0, 2, 3)).clamp(min=1e-3)
        loss = loss + 0.1 * (spread / kept.std()).log().square().mean()
    return loss
