"""PoseNet: the light convolutional network that turns drawn poses into an addition to the UNet's first
features.

Legend: B batch, F frames, H height, W width, C the UNet's first width, d the latents' downscale.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PoseNet(ModelMixin, ConfigMixin):
    """Eight convolutions with SiLU, a zero-initialised 1x1 projection, a learnable scale (MimicMotion,
    section 3.2).

    Args:
        noise_latent_channels: width of the UNet's first convolution, to whose output the result is added.
        channels: output channels of the convolutions.
        strides: strides of the convolutions; kernel 4 where 2, else 3. Their product is the VAE's downscale.
    """

    @register_to_config
    def __init__(
        self,
        noise_latent_channels: int = 320,
        channels: tuple[int, ...] = (3, 16, 16, 32, 32, 64, 64, 128),
        strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 1),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_before = 3
        for width, stride in zip(channels, strides, strict=True):
            layers += [nn.Conv2d(width_before, width, 4 if stride == 2 else 3, stride, padding=1), nn.SiLU()]
            width_before = width
        self.conv_layers = nn.Sequential(*layers)
        self.final_proj = nn.Conv2d(width_before, noise_latent_channels, kernel_size=1)
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.conv_layers:
            if isinstance(layer, nn.Conv2d):
                fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels
                nn.init.normal_(layer.weight, std=(2.0 / fan) ** 0.5)
        nn.init.zeros_(self.final_proj.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, pose_pixels: Tensor) -> Tensor:
        """Features of pose maps.

        Args:
            pose_pixels: ``B x F x 3 x H x W`` or ``BF x 3 x H x W`` in [-1, 1], RGB.

        Returns:
            ``BF x C x H/d x W/d``: frames stay folded into the batch, as the UNet's first convolution has
            them.
        """
        if pose_pixels.ndim == 5:
            pose_pixels = pose_pixels.flatten(0, 1)
        return self.final_proj(self.conv_layers(pose_pixels)) * self.scale
