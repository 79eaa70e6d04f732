"""I3D, the network of FVD: 16 frames of 224 x 224 to the logits of Kinetics' 400 classes.

Carreira and Zisserman 2017 (arXiv 1705.07750), taken for FVD by Unterthiner et al. 2018 (arXiv 1812.01717).
The keys are those of the PyTorch conversion that is published as ``i3d_pretrained_400.pt`` (also as
``rgb_imagenet.pt``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
NUM_CLASSES = 400

Triple = tuple[int, int, int]


class Unit3D(nn.Module):
    """Convolution padded as TensorFlow's SAME does it, batch norm, ReLU; the last one has a bias alone."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, is_last: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, bias=is_last)
        self.bn = None if is_last else nn.BatchNorm3d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_padded(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class Inception3D(nn.Module):
    """Four branches: 1 x 1; 1 x 1 and 3 x 3, twice; pooling and 1 x 1.

    Args:
        widths: of the first branch; the second's two; the third's two; the last.
    """

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit3D(in_channels, widths[0])
        self.b1a, self.b1b = Unit3D(in_channels, widths[1]), Unit3D(widths[1], widths[2], 3)
        self.b2a, self.b2b = Unit3D(in_channels, widths[3]), Unit3D(widths[3], widths[4], 3)
        self.b3b = Unit3D(in_channels, widths[5])
        self.out_channels = widths[0] + widths[2] + widths[4] + widths[5]

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class I3D(nn.Module):
    """``N x 3 x 16 x 224 x 224`` in [-1, 1] to ``N x 400`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        channels = 192
        for name, widths in _MIXED.items():
            block = Inception3D(channels, widths)
            self.add_module(name, block)
            channels = block.out_channels
        self.logits = Unit3D(channels, NUM_CLASSES, is_last=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _pooled(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))  # N x 64 x 8 x 56 x 56
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = _pooled(x, (1, 3, 3), (1, 2, 2))  # N x 192 x 8 x 28 x 28
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _pooled(x, (3, 3, 3), (2, 2, 2))  # N x 480 x 4 x 14 x 14
            elif name == "Mixed_5b":
                x = _pooled(x, (2, 2, 2), (2, 2, 2))  # N x 832 x 2 x 7 x 7
            x = self.get_submodule(name)(x)
        # Averaging before the last, linear, layer is averaging its outputs.
        return self.logits(x.mean(dim=(2, 3, 4), keepdim=True)).flatten(1)  # N x 400


def _padded(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros around ``N x C x T x H x W`` so that ceil(size / stride) steps fit, the odd one at the end."""
    sides: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        missing = max(k - (s if size % s == 0 else size % s), 0)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(x, sides)


def _pooled(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pooling; zeros at the border change nothing, as what is pooled is never negative."""
    return F.max_pool3d(_padded(x, kernel, stride), kernel, stride)


_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
