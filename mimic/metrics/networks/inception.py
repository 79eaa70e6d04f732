"""Inception-v3 as FID has it: the network of TensorFlow's 2015 graph, whose last pooling features count.

Szegedy et al. 2015 (arXiv 1512.00567), used for FID by Heusel et al. 2017 (arXiv 1706.08500). Its weights are
published for PyTorch as ``pt_inception-2015-12-05-6726825d.pth`` (pytorch-fid, torch-fidelity), with the keys
that this module has. It differs from the classifier of torchvision: average pooling leaves the border out,
the last block pools by maximum, and there are 1008 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299


@dataclass(frozen=True)
class Conv:
    """One convolution of a branch, by the name that its weights have."""

    name: str
    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1


@dataclass(frozen=True)
class Branch:
    """Convolutions in a row behind an optional pooling; `fork` are two more, side by side, at the end."""

    convs: tuple[Conv, ...] = ()
    pool: str | None = None
    """``average``, ``max``, or ``shrink`` (max, stride 2)."""
    fork: tuple[Conv, ...] = ()


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, spec: Conv, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, spec.channels, spec.kernel, stride=spec.stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(spec.channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches over the same input, their outputs beside each other on channels."""

    def __init__(self, in_channels: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.branches = branches
        self.out_channels = 0
        for branch in branches:
            channels = in_channels
            for conv in branch.convs:
                self.add_module(conv.name, ConvNorm(channels, conv, _same_padding(conv)))
                channels = conv.channels
            for conv in branch.fork:
                self.add_module(conv.name, ConvNorm(channels, conv, _same_padding(conv)))
            self.out_channels += sum(conv.channels for conv in branch.fork) or channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part for branch in self.branches for part in self._outputs(branch, x)], dim=1)

    def _outputs(self, branch: Branch, x: Tensor) -> list[Tensor]:
        if branch.pool == "average":
            x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif branch.pool == "max":
            x = F.max_pool2d(x, 3, stride=1, padding=1)
        elif branch.pool == "shrink":
            x = F.max_pool2d(x, 3, stride=2)
        for conv in branch.convs:
            x = self.get_submodule(conv.name)(x)
        return [self.get_submodule(conv.name)(x) for conv in branch.fork] or [x]


class InceptionV3(nn.Module):
    """``N x 3 x 299 x 299`` in [-1, 1] to ``N x 2048``."""

    def __init__(self) -> None:
        super().__init__()
        stem = (
            Conv("Conv2d_1a_3x3", 32, 3, 2), Conv("Conv2d_2a_3x3", 32, 3), Conv("Conv2d_2b_3x3", 64, 3),
            Conv("Conv2d_3b_1x1", 80), Conv("Conv2d_4a_3x3", 192, 3),
        )  # fmt: skip
        widths = [3, *(conv.channels for conv in stem)]
        for conv, (channels, _) in zip(stem, pairwise(widths), strict=True):
            padding = (1, 1) if conv.name == "Conv2d_2b_3x3" else (0, 0)
            self.add_module(conv.name, ConvNorm(channels, conv, padding))
        channels = widths[-1]
        for name, branches in _BLOCKS.items():
            block = Mixed(channels, branches)
            self.add_module(name, block)
            channels = block.out_channels
        self.fc = nn.Linear(channels, 1008)  # in the published file; features end before it

    def forward(self, x: Tensor) -> Tensor:
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self.get_submodule(name)(x)
        x = F.max_pool2d(x, 3, stride=2)  # N x 64 x 73 x 73
        for name in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
            x = self.get_submodule(name)(x)
        x = F.max_pool2d(x, 3, stride=2)  # N x 192 x 35 x 35
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))  # N x 2048


def _same_padding(conv: Conv) -> tuple[int, int]:
    """What keeps the size at stride 1; blocks that halve the size pad nothing."""
    if conv.stride != 1:
        return 0, 0
    height, width = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel, conv.kernel)
    return height // 2, width // 2


def _a(pooled: int) -> tuple[Branch, ...]:
    """35 x 35."""
    return (
        Branch((Conv("branch1x1", 64),)),
        Branch((Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5))),
        Branch((Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3))),
        Branch((Conv("branch_pool", pooled),), "average"),
    )


def _c(width: int) -> tuple[Branch, ...]:
    """17 x 17, with 7 x 7 convolutions in two halves."""
    across, down = (1, 7), (7, 1)
    return (
        Branch((Conv("branch1x1", 192),)),
        Branch((
            Conv("branch7x7_1", width), Conv("branch7x7_2", width, across), Conv("branch7x7_3", 192, down)
        )),
        Branch((
            Conv("branch7x7dbl_1", width), Conv("branch7x7dbl_2", width, down),
            Conv("branch7x7dbl_3", width, across), Conv("branch7x7dbl_4", width, down),
            Conv("branch7x7dbl_5", 192, across),
        )),
        Branch((Conv("branch_pool", 192),), "average"),
    )  # fmt: skip


def _e(pool: str) -> tuple[Branch, ...]:
    """8 x 8, the branches forked at their ends."""
    across, down = (1, 3), (3, 1)
    return (
        Branch((Conv("branch1x1", 320),)),
        Branch(
            (Conv("branch3x3_1", 384),),
            fork=(Conv("branch3x3_2a", 384, across), Conv("branch3x3_2b", 384, down)),
        ),
        Branch(
            (Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, 3)),
            fork=(Conv("branch3x3dbl_3a", 384, across), Conv("branch3x3dbl_3b", 384, down)),
        ),
        Branch((Conv("branch_pool", 192),), pool),
    )


_BLOCKS: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _a(32), "Mixed_5c": _a(64), "Mixed_5d": _a(64),
    "Mixed_6a": (
        Branch((Conv("branch3x3", 384, 3, 2),)),
        Branch((Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3, 2))),
        Branch(pool="shrink"),
    ),
    "Mixed_6b": _c(128), "Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192),
    "Mixed_7a": (
        Branch((Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, 2))),
        Branch((
            Conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)), Conv("branch7x7x3_4", 192, 3, 2),
        )),
        Branch(pool="shrink"),
    ),
    "Mixed_7b": _e("average"), "Mixed_7c": _e("max"),
}  # fmt: skip
