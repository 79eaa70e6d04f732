"""The loss of the miniature's windows: denoising, and the image encoder's own task (`palette_of`)."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mimic.families.amplification import amplify
from mimic.families.mimicmotion import objective
from mimic.miniature.dancers import Window
from mimic.miniature.network import BANDS, Mini, MiniSettings


def window_loss(
    model: Mini, window: Window, settings: MiniSettings, generator: torch.Generator, *, palette_only: bool
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch of windows, and its terms for the log.

    Args:
        palette_only: of the image encoder's own task alone.
    """
    B, F = window.latents.shape[:2]
    embedding = model.embed(window.reference)
    colours, present = palette_of(window)
    palette = (present * (model.palette(embedding[:, 0]).reshape(colours.shape) - colours).square()).mean()
    if palette_only:
        return palette, {"palette": palette.item()}

    sigma = objective.sample_sigma(B, P_mean=settings.P_mean, P_std=settings.P_std, generator=generator)
    sigma = sigma.clamp(*settings.sigma_range)
    x0 = window.latents
    noise = torch.randn(x0.shape, generator=generator)
    noisy = x0 + objective.as_latent_shape(sigma) * noise

    kept = (torch.rand(B, generator=generator) >= settings.dropout).float()
    reference = (x0[:, :1] / window.scaling_factor * kept[:, None, None, None, None]).expand_as(x0)
    embedding = embedding * kept[:, None, None]
    pose = model.pose_net(window.maps) * kept.repeat_interleave(F)[:, None, None, None]

    ids = torch.tensor([[6.0, 127.0, 0.0]]).expand(B, 3)
    scaled = objective.c_in(objective.as_latent_shape(sigma)) * noisy
    output = model.unet(
        torch.cat([scaled, reference], dim=2), objective.c_noise(sigma), embedding, ids, pose_latents=pose
    ).sample
    x0_hat = objective.denoised(output, noisy, sigma)
    masks = {
        name: window.regions[:, :, index : index + 1]
        for index, name in enumerate(("figure", "hands", "face"))
    }
    amplification = amplify(masks, settings.region_factors)
    # The reference's own picture is known: it needs little of the loss.
    importance = torch.ones(1, F, 1, 1, 1)
    importance[:, 0] = 0.25
    amplification = amplification * importance / (amplification * importance).mean()
    loss = objective.edm_loss(x0_hat, x0, sigma, amplification=amplification)
    with torch.no_grad():
        error = (x0_hat - x0).square()[:, 1:].mean((1, 2, 3, 4))
        high = sigma > 3
        facts = {"loss": loss.item(), "palette": palette.item()}
        if high.any():
            facts["x0_high"] = error[high].mean().item()
        if (~high).any():
            facts["x0_low"] = error[~high].mean().item()
    return loss + settings.palette_weight * palette, facts


def palette_of(window: Window) -> tuple[Tensor, Tensor]:
    """Mean colours of the reference in `BANDS` bands of the figure's height, and which bands there are.

    Returns:
        ``B x bands x 6`` (mean RGB, then RGB of the background at that height) and ``B x bands x 1``.
    """
    picture = functional.interpolate(window.reference, size=window.regions.shape[-2:], mode="area")
    figure = (window.regions[:, 0, 0] > 0.95).float()  # B x h x w
    values, present = [], []
    for mask, colours in zip(figure, picture):
        rows = mask.sum(1).nonzero()[:, 0]
        top, bottom = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, mask.shape[0])
        edges = np.linspace(top, bottom, BANDS + 1).round().astype(int)
        for low, high in itertools.pairwise(edges):
            inside = mask[low:high]
            outside = 1 - inside
            count = inside.sum()
            mean = (colours[:, low:high] * inside).sum((1, 2)) / count.clamp(min=1)
            behind = (colours[:, low:high] * outside).sum((1, 2)) / outside.sum().clamp(min=1)
            values.append(torch.cat([mean, behind]))
            present.append((count > 0).float())
    shape = (len(figure), BANDS)
    return torch.stack(values).reshape(*shape, 6), torch.stack(present).reshape(*shape, 1)
