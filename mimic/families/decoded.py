"""Loss on decoded crops, for all families: what an error of the latents looks like.

The loss on latents weighs all of them alike; in pixels, few of them decide about a contour or an eye. So both
the denoised latents and the true ones are decoded by the frozen VAE, and compared there as well. Berrada et
al., "Boosting Latent Diffusion with Perceptual Objectives" (arXiv 2411.04873, equation 6), compare features
inside the decoder; here it is its output D, of one crop of each frame::

    L = L_theta + w_d mean(w (|d| + d^2 + |dx d| + |dy d|)),    d = D(x0_hat) - D(x0)

with w the factors of `mimic.families.amplification` and dx, dy differences of neighbouring pixels.

Legend: B batch, F frames, C latent channels, h x w latents, s side of a crop in latents.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from mimic.families.amplification import amplify
from mimic.models.vae import VAE, decode_pictures, vae_downscale

CROPS = "crops"
"""Name of the random numbers that `decoded_loss` needs among a sample's draws, ``F x 2`` in [0, 1)."""


def decoded_loss(
    vae: VAE,
    x0_hat: Tensor,
    x0: Tensor,
    masks: Mapping[str, Tensor],
    numbers: Tensor,
    *,
    factors: Mapping[str, float],
    centres: Mapping[str, float],
    side: int,
) -> Tensor:
    """Compute the loss on one decoded crop of each frame, a mean for each sample, ``B``.

    Args:
        vae: frozen; it gets no gradient.
        x0_hat, x0: denoised and true latents, as the VAE leaves them (not scaled), ``B x F x C x h x w``.
        masks: share of each latent pixel that each region covers, ``B x F x 1 x h x w`` in [0, 1].
        numbers: uniform in [0, 1), ``B x F x 2``: which region, and where in it.
        factors: of the loss inside each region.
        centres: share of the crops with a centre in each region; the others have it anywhere. A region that
            is not in a frame leaves the crop to the whole frame.
        side: of the crops in latents.
    """
    B, F, _, h, w = x0.shape
    side = min(side, h, w)
    weight = amplify(masks, factors).to(x0).expand(B, F, 1, h, w)
    rows, columns = _places(masks, numbers, centres, (B, F, h, w), side)
    samples, frames = (torch.arange(size, device=x0.device) for size in (B, F))

    def crops(tensor: Tensor) -> Tensor:
        """Cut the crops out of ``B x F x c x h x w``, ``BF x c x s x s``."""
        cut = tensor.movedim(2, -1)[samples[:, None, None, None], frames[:, None, None], rows, columns]
        return cut.movedim(-1, 2).flatten(0, 1)

    made = decode_pictures(vae, crops(x0_hat))
    with torch.no_grad():
        true = decode_pictures(vae, crops(x0))
    factor = functional.interpolate(crops(weight), scale_factor=float(vae_downscale(vae)), mode="nearest")
    return pixel_error(made, true, factor).unflatten(0, (B, F)).mean(1)


def pixel_error(made: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Compute ``mean(w (|d| + d^2 + |dx d| + |dy d|))`` of each picture, ``N``.

    Args:
        made, true: ``N x 3 x H x W``, about [-1, 1].
        weight: w, ``N x 1 x H x W``.
    """
    error = made.float() - true.float()
    total = (weight * (error.abs() + error.square())).flatten(1).mean(1)
    for axis in (-1, -2):
        inner = weight.narrow(axis, 1, weight.shape[axis] - 1)
        total = total + (inner * error.diff(dim=axis).abs()).flatten(1).mean(1)
    return total


def _places(
    masks: Mapping[str, Tensor],
    numbers: Tensor,
    centres: Mapping[str, float],
    size: tuple[int, int, int, int],
    side: int,
) -> tuple[Tensor, Tensor]:
    """Return rows ``B x F x s x 1`` and columns ``B x F x 1 x s`` of the crops, drawn where the tensors are.

    A crop's centre is drawn in proportion to its region's mask.
    """
    which, where = numbers.float().unbind(-1)  # B x F
    everywhere = torch.ones(size, device=numbers.device)
    region, below = everywhere, 0.0
    for name, share in centres.items():
        is_chosen = (which >= below) & (which < below + share)
        region = torch.where(is_chosen[..., None, None], masks[name][:, :, 0].float(), region)
        below += share
    region = torch.where((region.sum((-1, -2)) > 0)[..., None, None], region, everywhere)
    reached = region.flatten(2).cumsum(-1)
    index = (reached <= (where * reached[..., -1])[..., None]).sum(-1).clamp(max=reached.shape[-1] - 1)
    h, w = size[2:]
    top, left = (
        (centre - side // 2).clamp(0, most - side) for centre, most in ((index // w, h), (index % w, w))
    )
    steps = torch.arange(side, device=numbers.device)
    return (top[..., None] + steps)[..., :, None], (left[..., None] + steps)[..., None, :]
