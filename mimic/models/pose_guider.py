"""Pose guiders: small convolutional networks that turn drawn poses into a term after the UNet's first
convolution.

There are two. The public re-implementation of Animate Anyone has the embedding of a ControlNet, 3x3
convolutions of 16/32/96/256 channels; the paper (arXiv 2311.17117, section 3.2) has four 4x4 convolutions
with stride 2 and 16/32/64/128 channels. Both end in a projection that starts at zero.

Legend: F frames, H height, W width, C the UNet's first width, d the latents' downscale.
"""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as nnf
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PoseGuider(ModelMixin, ConfigMixin):
    """The re-implementation's guider: pairs of 3x3 convolutions; the second of each pair halves the map.

    Args:
        noise_latent_channels: width of the UNet's first convolution, to whose output the result is added.
        channels: widths, one more than there are halvings; the released weights have these.
    """

    @register_to_config
    def __init__(
        self, noise_latent_channels: int = 320, channels: tuple[int, ...] = (16, 32, 96, 256)
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in itertools.pairwise(channels):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, 3, stride=2, padding=1))
        self.conv_out = _zero(nn.Conv2d(channels[-1], noise_latent_channels, 3, padding=1))

    @property
    def downscale(self) -> int:
        """Size of the pose maps divided by that of the output."""
        return 2 ** (len(self.config.channels) - 1)

    def forward(self, pose_pixels: Tensor) -> Tensor:
        """Features of pose maps.

        Args:
            pose_pixels: ``F x 3 x H x W`` in [-1, 1], RGB; converted to [0, 1] for the released weights.

        Returns:
            ``F x C x H/d x W/d``
        """
        features = nnf.silu(self.conv_in(pose_pixels / 2 + 0.5))
        for block in self.blocks:
            features = nnf.silu(block(features))
        return self.conv_out(features)


class PaperPoseGuider(ModelMixin, ConfigMixin):
    """The paper's guider: 4x4 convolutions with stride 2, Gaussian weights, a zero projection.

    Four halvings make maps 16 times smaller, where the latents of Stable Diffusion are 8 times smaller; the
    paper does not say how they are matched. Here the pose maps are enlarged first by the missing factor.

    Args:
        noise_latent_channels: width of the UNet's first convolution.
        channels: widths of the convolutions.
        downscale: of the latents against the pixels.
    """

    @register_to_config
    def __init__(
        self,
        noise_latent_channels: int = 320,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        downscale: int = 8,
    ) -> None:
        super().__init__()
        widths = (3, *channels)
        self.conv_layers = nn.ModuleList(
            nn.Conv2d(width, wider, 4, stride=2, padding=1) for width, wider in itertools.pairwise(widths)
        )
        self.final_proj = _zero(nn.Conv2d(channels[-1], noise_latent_channels, 1))
        for width, layer in zip(widths, self.conv_layers):
            for name, parameter in layer.named_parameters():
                if name == "weight":
                    nn.init.normal_(parameter, std=math.sqrt(2 / (4 * 4 * width)))
                else:
                    nn.init.zeros_(parameter)

    @property
    def downscale(self) -> int:
        """Size of the pose maps divided by that of the output."""
        return int(self.config.downscale)

    def forward(self, pose_pixels: Tensor) -> Tensor:
        """Features of pose maps, as `PoseGuider.forward`: ``F x 3 x H x W`` in [-1, 1] to ``F x C x H/d x
        W/d``."""
        enlargement = 2 ** len(self.conv_layers) / self.config.downscale
        features = pose_pixels
        if enlargement != 1:
            features = nnf.interpolate(features, scale_factor=enlargement, mode="bilinear")
        for layer in self.conv_layers:
            features = nnf.silu(layer(features))
        return self.final_proj(features)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
