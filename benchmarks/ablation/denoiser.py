"""What do the arms train? A denoiser small enough to be trained eight times over on a busy CPU.

It keeps what the ideas act on: pose maps enter through MimicMotion's PoseNet, added after the first
convolution; noisy latents and the reference's enter side by side; the output is preconditioned as in EDM.
What is left out is the rest of Stable Video Diffusion: frames are drawn one by one, with no layers over time.
In their place the reference, with its own pose map, is shown to one attention layer, as MimicMotion's frame 0
is to all others.

Legend: B windows, F frames (targets), C latent channels, H x W picture, h x w latents, K width.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from mimic.models.pose_net import PoseNet

_GROUPS = 8


class Denoiser(nn.Module):
    """Two levels of convolutions, attention to the reference at the lower one.

    Args:
        latent_channels: of the VAE.
        width: channels of the upper level; the lower has twice as many.
        pose_strides: PoseNet's strides, whose product is the VAE's downscale.
    """

    def __init__(self, *, latent_channels: int, width: int, pose_strides: tuple[int, ...]) -> None:
        super().__init__()
        low, embedding = 2 * width, 2 * width

        def block(inputs: int, outputs: int) -> ResnetBlock2D:
            return ResnetBlock2D(
                in_channels=inputs, out_channels=outputs, temb_channels=embedding, groups=_GROUPS
            )

        channels = (3, 16, 16, 32, 32, 48, 48, 64)
        self.pose_net = PoseNet(noise_latent_channels=width, channels=channels, strides=pose_strides)
        self.reference_pose_net = PoseNet(
            noise_latent_channels=width, channels=channels, strides=pose_strides
        )
        self.reference_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.reference_block = block(width, width)
        self.reference_down = nn.Conv2d(width, low, 3, stride=2, padding=1)
        self.reference_low = block(low, low)
        self.palette = nn.Linear(low, embedding)

        self.noise_level = nn.Sequential(nn.Linear(1, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.conv_in = nn.Conv2d(2 * latent_channels, width, 3, padding=1)
        self.down_block = block(width, width)
        self.down = nn.Conv2d(width, low, 3, stride=2, padding=1)
        self.low_in = block(low, low)
        self.norm = nn.GroupNorm(_GROUPS, low)
        self.attention = Attention(low, cross_attention_dim=low, heads=4, dim_head=low // 4)
        self.low_out = block(low, low)
        self.up = nn.Conv2d(low, width, 3, padding=1)
        self.up_block = block(2 * width, width)
        self.norm_out = nn.GroupNorm(_GROUPS, width)
        self.conv_out = nn.Conv2d(width, latent_channels, 3, padding=1)
        for net in (self.pose_net, self.reference_pose_net):
            # Small, not zero: in so short a training the pose must matter from the first step.
            nn.init.normal_(net.final_proj.weight, std=0.05)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(
        self, scaled: Tensor, c_noise: Tensor, reference: Tensor, maps: Tensor, reference_map: Tensor
    ) -> Tensor:
        """The network's raw output.

        Args:
            scaled: noisy latents times c_in, ``B x F x C x h x w``.
            c_noise: what the network is told of the noise, ``B``.
            reference: unscaled latents, ``B x C x h x w``.
            maps: pose maps of the targets in [-1, 1], ``B x F x 3 x H x W``.
            reference_map: the reference's own, ``B x 3 x H x W``.
        """
        B, F = scaled.shape[:2]
        noise = self.noise_level(c_noise[:, None])
        seen = self.reference_in(reference) + self.reference_pose_net(reference_map)
        seen = self.reference_low(self.reference_down(self.reference_block(seen, noise)), noise)
        embedding = (noise + self.palette(seen.mean((2, 3)))).repeat_interleave(F, dim=0)
        tokens = seen.flatten(2).transpose(1, 2).repeat_interleave(F, dim=0)  # BF x (h/2 w/2) x 2K

        beside = reference[:, None].expand_as(scaled)
        high = self.conv_in(torch.cat([scaled, beside], dim=2).flatten(0, 1)) + self.pose_net(maps)
        high = self.down_block(high, embedding)  # BF x K x h x w
        low = self.low_in(self.down(high), embedding)  # BF x 2K x h/2 x w/2
        queries = self.norm(low).flatten(2).transpose(1, 2)
        low = low + self.attention(queries, tokens).transpose(1, 2).reshape(low.shape)
        low = self.low_out(low, embedding)
        back = self.up(functional.interpolate(low, size=high.shape[-2:], mode="nearest"))
        high = self.up_block(torch.cat([back, high], dim=1), embedding)
        output = self.conv_out(functional.silu(self.norm_out(high)))
        return output.unflatten(0, (B, F))
