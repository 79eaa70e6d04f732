"""3D ResNet-50, the network of FID-VID: 16 frames of 112 x 112 to one feature.

Hara et al. 2018 (arXiv 1711.09577), weights published as ``resnet-50-kinetics.pth``; the keys are theirs
(behind the ``module.`` that their training put in front).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 112
MEAN_RGB = (114.7748, 107.7354, 99.4750)
"""What the network's training subtracted from pixels in 0 to 255."""

_EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with a shortcut around them."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * _EXPANSION
        self.conv1 = nn.Conv3d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Module):
    """``N x 3 x 16 x 112 x 112``, pixels less `MEAN_RGB`, to ``N x 2048``.

    Args:
        depths: blocks of each stage; the default is ResNet-50.
        width: channels of the first stage.
    """

    def __init__(self, depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Bottleneck(channels, width * 2**stage, stride))
                channels = width * 2**stage * _EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_stages = len(depths)
        self.fc = nn.Linear(channels, 400)  # in the published file; features end before it

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # N x 64 x 16 x 56 x 56
        x = F.max_pool3d(x, 3, stride=2, padding=1)  # N x 64 x 8 x 28 x 28
        for stage in range(self.num_stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3, 4))  # N x 2048
