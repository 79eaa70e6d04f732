"""Which parts of which pictures does the VAE train on? Crops around figures, faces and hands, with weights.

Legend: B pictures of a batch, F consecutive frames of a clip, H x W their size; C latent channels, h x w
latents' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mimic.miniature.dancers import Dancer, as_network_input

REGIONS = ("figure", "hands", "face")
"""The regions of a `Dancer`, in their order."""
_KEPT = 32  # dancers from which batches are drawn
_LARGE = 0.1  # share of a picture from which a region is not small


@dataclass(frozen=True)
class Crops:
    """Pictures to train on; the `F` frames of a clip are consecutive in the batch.

    Args:
        pixels: ``B x 3 x H x W`` in [-1, 1].
        weight: of each pixel in the loss, ``B x 1 x H x W``.
        made: latents of the same crops as the miniature makes them, unscaled ``B x C x h x w``; None without
            such.
    """

    pixels: Tensor
    weight: Tensor
    made: Tensor | None = None


class CropStream:
    """Draws batches of crops; each dancer is used several times.

    Args:
        stream: of dancers; one is taken for each batch.
        factors: weight of the pixels of each of `REGIONS`; 1 is that of the background.
        small_gain: largest further factor for regions of hands and faces that are small in their picture: the
            square root of how many times smaller than a tenth of the picture they are.
        centres: share of crops with a centre in each of `REGIONS`.
        frames: consecutive frames of each crop, of dancers whose pictures 1, 2, ... are consecutive.
        step: crops start at multiples of this, the VAE's downscale.
        rng: of all choices.
        make_latents: makes latents of a dancer's pictures, with a seed (`mimic.miniature.made_latents`).
    """

    def __init__(
        self,
        stream: Iterator[Dancer],
        *,
        factors: Mapping[str, float],
        small_gain: float,
        centres: Mapping[str, float],
        frames: int,
        step: int,
        rng: np.random.Generator,
        make_latents: Callable[[Dancer, int], Tensor] | None = None,
    ) -> None:
        self._stream, self._factors, self._frames, self._step, self._rng = stream, factors, frames, step, rng
        self._small_gain = small_gain
        shares = np.array([centres.get(name, 0.0) for name in REGIONS])
        self._shares = shares / shares.sum()
        self._kept: list[tuple[Dancer, Tensor | None]] = []
        self._make_latents = make_latents

    def draw(self, num_pixels: int, crop: int) -> Crops:
        """Draw about as many crops as have `num_pixels` pixels, at least one.

        Args:
            num_pixels: of the batch.
            crop: side of the crops; that of the pictures draws whole pictures.
        """
        for _ in range(1 if self._kept else _KEPT):
            dancer = next(self._stream)
            make = self._make_latents
            made = None if make is None else make(dancer, int(self._rng.integers(2**31)))
            self._kept.append((dancer, made))
        self._kept = self._kept[-_KEPT:]
        clips = max(1, round(num_pixels / (crop * crop * self._frames)))
        drawn = [self._one(*self._kept[int(self._rng.integers(len(self._kept)))], crop) for _ in range(clips)]
        latents = [each.made for each in drawn if each.made is not None]
        return Crops(
            torch.cat([each.pixels for each in drawn]),
            torch.cat([each.weight for each in drawn]),
            torch.cat(latents) if latents else None,
        )

    def _one(self, dancer: Dancer, made: Tensor | None, crop: int) -> Crops:
        first = 0 if self._frames == 1 else 1
        start = int(self._rng.integers(first, len(dancer.pictures) - self._frames + 1))
        shown = slice(start, start + self._frames)
        pixels, regions = as_network_input(dancer.pictures[shown]), dancer.regions[shown].float() / 100
        regions = functional.interpolate(regions, size=pixels.shape[-2:], mode="nearest")
        weight = torch.ones_like(regions[:, :1])
        for index, name in enumerate(REGIONS):
            region = regions[:, index : index + 1]
            factor = self._factors.get(name, 1.0)
            if name != "figure":
                share = float(region.mean())
                factor *= min(self._small_gain, max(1.0, (_LARGE / max(share, 1e-6)) ** 0.5))
            weight = torch.maximum(weight, 1 + (factor - 1) * region)
        top, left = self._corner(regions[0], crop)
        window = (..., slice(top, top + crop), slice(left, left + crop))
        if made is not None:
            side = crop // self._step
            top, left = top // self._step, left // self._step
            made = made[shown, :, top : top + side, left : left + side]
        return Crops(pixels[window], weight[window], made)

    def _corner(self, regions: Tensor, crop: int) -> tuple[int, int]:
        """Draw a crop around a point of one region, of the figure where that region is not shown."""
        height, width = regions.shape[-2:]
        region = int(self._rng.choice(len(REGIONS), p=self._shares))
        inside = (regions[region] > 0.5).nonzero()
        if not len(inside):
            inside = (regions[0] > 0.5).nonzero()
        centre = (
            inside[int(self._rng.integers(len(inside)))].tolist()
            if len(inside)
            else [height // 2, width // 2]
        )
        corner = []
        for middle, size in zip(centre, (height, width)):
            place = middle - crop // 2 + int(self._rng.integers(-crop // 4, crop // 4 + 1))
            corner.append(int(np.clip(place, 0, size - crop)) // self._step * self._step)
        return corner[0], corner[1]
