"""Initial noise of sampling: one window repeated along time, the full length, or one frame repeated.

Legend: B batch, F frames, T frames of one window, C channels, H height, W width (of latents).
"""

from __future__ import annotations

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

Generators = torch.Generator | list[torch.Generator] | None

NOISE_LENGTHS = ("window", "full", "shared")
"""Noise modes. ``window``: the noise of one window is repeated along time (MimicMotion, MagicAnimate);
``full``: independent noise for every frame; ``shared``: the same noise for all frames."""


def frames_to_draw(num_frames: int, window: int, mode: str) -> int:
    """Return the number of frames of noise to draw.

    Args:
        num_frames: length of the clip.
        window: frames of a window.
        mode: one of `NOISE_LENGTHS`.

    Raises:
        ValueError: `mode` is not one of `NOISE_LENGTHS`.
    """
    if mode not in NOISE_LENGTHS:
        raise ValueError(f"noise '{mode}' is not known; use one of {', '.join(NOISE_LENGTHS)}.")
    return {"window": min(window, num_frames), "full": num_frames, "shared": 1}[mode]


def draw_noise(
    shape: tuple[int, ...], generator: Generators, *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Draw unit normal noise of `shape`; with a list of generators, item b of the batch uses the b-th.

    A CPU generator gives the same numbers on every device.
    """
    return randn_tensor(shape, generator=generator, device=device, dtype=dtype)


def repeat_along_time(noise_BTCHW: Tensor, num_frames: int) -> Tensor:
    """Repeat noise to ``B x F x C x H x W``; frame f gets the noise of frame f mod T."""
    drawn = noise_BTCHW.shape[1]
    return noise_BTCHW[:, torch.arange(num_frames, device=noise_BTCHW.device) % drawn]
