"""Regional loss amplification (MimicMotion, arXiv 2406.19680, section 3.4), for all families.

Inside a region r, such as the hands, the loss of a latent pixel is multiplied by the region's factor w_r, the
paper's w_hand. With m_r, the share of the latent pixel that the region covers::

    L_theta = w lambda(sigma) |x0_hat - x0|^2,    w = max(1 + (w_r - 1) m_r) over all regions r

Legend: B batch, F frames, h x w latents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mimic.config.loading import ConfigError


def amplify(masks: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """Compute the factor of each latent pixel's loss; where regions overlap, the largest factor is used.

    Args:
        masks: maps each region to the share of each latent pixel it covers, ``B x F x 1 x h x w`` in [0, 1].
        factors: maps each region to its factor (the paper's w_hand is 10).

    Returns:
        factors ``B x F x 1 x h x w``, 1 outside all regions; a scalar 1 if `factors` is empty.

    Raises:
        KeyError: a factor names a region that has no mask.
    """
    total = torch.ones(())
    for name, factor in factors.items():
        region = 1 + (factor - 1) * masks[name]
        total = region if total.ndim == 0 else torch.maximum(total, region)
    return total


def check_regions(named: Collection[str], masked: Collection[str]) -> None:
    """Check that the data provides a mask for every region that an objective names.

    Args:
        named: names of these regions.
        masked: names of the regions that the data masks.

    Raises:
        ConfigError: a region has no mask (a `ValueError`).
    """
    absent = sorted(set(named) - set(masked))
    if absent:
        raise ConfigError(
            f"objective names the regions {', '.join(absent)}, but the data masks "
            f"{', '.join(sorted(masked)) or 'none'}; add them to data.regions, or leave them out of "
            "objective.amplification and objective.decoded_centres"
        )
