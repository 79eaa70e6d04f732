"""Windows of the dancers that all arms are trained on, drawn at random.

Legend: H x W pictures, h x w latents, C latent channels, B windows in a batch, F frames in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mimic.miniature.dancers import Dancer


@dataclass
class Window:
    """A batch of training windows; picture 0 of each window is the reference, with its own pose."""

    latents: Tensor  # B x F x C x h x w, scaled; picture 0 included
    maps: Tensor  # B x F x 3 x H x W in [-1, 1]
    regions: Tensor  # B x F x 3 x h x w in [0, 1]
    reference: Tensor  # B x 3 x H x W in [-1, 1]
    scaling_factor: float
    """Scaling factor of the VAE; `latents / scaling_factor` are the VAE's latents, as the UNet's
    condition."""


class RollingBuffer:
    """Buffer of the last `capacity` dancers with their latents, from which windows are drawn at random.

    Each dancer is used in several windows with different references before newer ones replace it, so that the
    renderer and the VAE's encoder may be slower than the UNet.
    """

    def __init__(self, capacity: int, rng: np.random.Generator, *, scaling_factor: float) -> None:
        self.capacity = capacity
        self.rng = rng
        self.scaling_factor = scaling_factor
        self._items: list[tuple[Dancer, Tensor]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, dancer: Dancer, latents: Tensor) -> None:
        if len(self._items) < self.capacity:
            self._items.append((dancer, latents))
        else:
            self._items[self._next] = (dancer, latents)
        self._next = (self._next + 1) % self.capacity

    def draw(self, batch: int, frames: int, *, timing: Literal["random", "clip"]) -> Window:
        """Draw windows of `frames` pictures; with ``clip``, picture 0 is the reference and the others are
        consecutive."""
        chosen = self.rng.integers(len(self._items), size=batch)
        windows = []
        for index in chosen:
            dancer, latents = self._items[int(index)]
            num = len(dancer.pictures)
            if timing == "random":
                order = self.rng.permutation(num)[:frames]
            else:
                start = int(self.rng.integers(1, num - frames + 2))
                order = np.array([0, *range(start, start + frames - 1)])
            windows.append((dancer, latents, torch.from_numpy(order)))
        return Window(
            latents=torch.stack([latents[order] for _, latents, order in windows]).float(),
            maps=torch.stack([dancer.maps[order] for dancer, _, order in windows]).float() / 127.5 - 1,
            regions=torch.stack([dancer.regions[order] for dancer, _, order in windows]).float() / 100,
            reference=torch.stack([dancer.pictures[order[0]] for dancer, _, order in windows]).float() / 127.5
            - 1,
            scaling_factor=self.scaling_factor,
        )
