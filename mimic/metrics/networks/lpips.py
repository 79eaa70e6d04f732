"""LPIPS: how different do two pictures look? Weighted distances of deep features.

Zhang et al. 2018 (arXiv 1801.03924), equation 1. Weights are published in two parts: a classifier of
torchvision (``vgg16-397923af.pth`` or ``alexnet-owt-7be5be79.pth``, of which ``features.*`` are used) and the
weights of the distances (``vgg.pth`` or ``alex.pth`` of the authors, ``lin0.model.1.weight`` and on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Pixels in [-1, 1] become (x - shift) / scale: ImageNet's means and deviations for that range."""

_TINY = 1e-10


@dataclass(frozen=True)
class Layer:
    """A convolution (with ReLU behind it), or a max pooling where there are no channels."""

    channels: int | None = None
    kernel: int = 3
    stride: int = 1
    padding: int = 1


def _vgg16() -> tuple[Layer, ...]:
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    pool = Layer(None, 2, 2, 0)
    layers = [layer for width, depth in stages for layer in (*[Layer(width)] * depth, pool)]
    return tuple(layers[:-1])


BACKBONES: dict[str, tuple[Layer, ...]] = {
    "vgg": _vgg16(),
    "alex": (
        Layer(64, 11, 4, 2), Layer(None, 3, 2, 0), Layer(192, 5, 1, 2), Layer(None, 3, 2, 0),
        Layer(384), Layer(256), Layer(256),
    ),
}  # fmt: skip
TAPS = {"vgg": (1, 4, 8, 12, 16), "alex": (0, 2, 4, 5, 6)}
"""Layers (counted as in `BACKBONES`) behind whose ReLU features are taken."""


class LinearWeights(nn.Module):
    """One non-negative weight a channel, under the key that the published file has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Lpips(nn.Module):
    """Two batches ``N x 3 x H x W`` in [-1, 1] to ``N`` distances; 0 is equal.

    Args:
        layers, taps: the network and where its features are taken, as `BACKBONES` and `TAPS` have them.
    """

    def __init__(self, layers: Sequence[Layer], taps: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.tap_places: list[int] = []
        channels, widths = 3, []
        for number, layer in enumerate(layers):
            if layer.channels is None:
                self.features.append(nn.MaxPool2d(layer.kernel, layer.stride, layer.padding))
                continue
            self.features.append(
                nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding)
            )
            self.features.append(nn.ReLU())
            channels = layer.channels
            if number in taps:
                self.tap_places.append(len(self.features) - 1)
                widths.append(channels)
        for number, width in enumerate(widths):
            self.add_module(f"lin{number}", LinearWeights(width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        distance = torch.zeros(len(x), device=x.device)
        for number, (a, b) in enumerate(zip(self.maps(x), self.maps(y), strict=True)):
            squared = (_unit(a) - _unit(b)) ** 2  # N x C x h x w
            weighted = self.get_submodule(f"lin{number}")(squared)  # N x 1 x h x w
            distance = distance + weighted.mean(dim=(1, 2, 3))
        return distance

    def maps(self, x: Tensor) -> list[Tensor]:
        """Features of each tap, ``N x C x h x w``."""
        shift, scale = (torch.tensor(v, device=x.device)[:, None, None] for v in (SHIFT, SCALE))
        x = (x - shift) / scale
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.tap_places:
                found.append(x)
        return found


def published_lpips(state: dict[str, Tensor]) -> Lpips:
    """An empty network of the kind that a published state dict is of."""
    name = "vgg" if "features.28.weight" in state else "alex"
    return Lpips(BACKBONES[name], TAPS[name])


def _unit(maps_NChw: Tensor) -> Tensor:
    """Each position's channels scaled to length one."""
    return maps_NChw / (torch.linalg.vector_norm(maps_NChw, dim=1, keepdim=True) + _TINY)
