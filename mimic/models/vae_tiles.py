"""Decode large frames in overlapping tiles, so that memory does not grow with their size.

Neighbouring tiles differ a little, since the decoder's group norms and attention see one tile at a time. In
the overlap, a quarter of a tile, weights fall linearly from one to the other, so that no border is visible.

Legend: F frames, C latent channels, H x W frames, h x w latents.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MIN_TILE = 8
"""Smallest side of a tile, in latent pixels."""
_OVERLAP = 0.25
"""Overlap of neighbouring tiles, as a share of their side."""


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents_FChw: Tensor, side: int) -> Tensor:
    """Decode latents tile by tile; those that fit into one tile are decoded as they are.

    Args:
        decode: ``F x C x h x w`` to ``F x 3 x H x W``.
        latents_FChw: of consecutive frames.
        side: of a tile, in latent pixels.

    Returns:
        float32 ``F x 3 x H x W``.
    """
    height, width = latents_FChw.shape[-2:]
    rows, columns = _starts(height, side), _starts(width, side)
    if len(rows) == len(columns) == 1:
        return decode(latents_FChw)
    total = torch.empty(0)
    for top in rows:
        for left in columns:
            part = decode(latents_FChw[..., top : top + side, left : left + side]).float()
            scale = part.shape[-1] // min(side, width)
            if not len(total):
                shape = (*part.shape[:2], height * scale, width * scale)
                total = torch.zeros(shape, device=part.device)
                weights = torch.zeros(shape[-2:], device=part.device)
            weight = torch.outer(
                _ramp(part.shape[-2], top > 0, top + side < height),
                _ramp(part.shape[-1], left > 0, left + side < width),
            ).to(part.device)
            window = (
                ...,
                slice(top * scale, top * scale + part.shape[-2]),
                slice(left * scale, left * scale + part.shape[-1]),
            )
            total[window] += part * weight
            weights[window] += weight
    return total / weights


def _starts(length: int, side: int) -> list[int]:
    """Lay tiles over a side: evenly spread, overlapping by at least `_OVERLAP`, the last one at the end."""
    if length <= side:
        return [0]
    step = max(1, round(side * (1 - _OVERLAP)))
    count = -(-(length - side) // step) + 1
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def _ramp(length: int, rises: bool, falls: bool) -> Tensor:
    """Weights along one side of a tile, rising and falling over the overlap where it has neighbours."""
    weight = torch.ones(length)
    reach = max(1, round(length * _OVERLAP))
    slope = (torch.arange(reach) + 0.5) / reach
    if rises:
        weight[:reach] *= slope
    if falls:
        weight[-reach:] *= slope.flip(0)
    return weight
