"""A narrow VAE for miniature models, which trains in minutes on a CPU."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import TemporalResnetBlock
from torch import Tensor, nn


class MiniTemporalVAE(AutoencoderKLTemporalDecoder):
    """`AutoencoderKLTemporalDecoder` with a chosen number of norm groups.

    The parent always takes 32 groups. Over 32 channels that is an instance norm, which erases colour.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * 3,
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        sample_size: int = 96,
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            sample_size=sample_size,
            scaling_factor=scaling_factor,
            force_upcast=force_upcast,
        )
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.num_groups = norm_num_groups


@torch.no_grad()
def initialise_as_averaging(vae: MiniTemporalVAE, *, carrier: float = 4.0) -> None:
    """Start the VAE as "average down, repeat up": residual branches at zero, RGB carried in three channels.

    A norm would erase the carried colours, so every norm's first group also carries constants of +-`carrier`,
    which fix its mean and spread; the output layers undo the known gain.
    """
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")) and isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.zeros_(module.weight)
            _zero_bias(module)
        if name.endswith("conv_shortcut") and isinstance(module, nn.Conv2d):
            _pass_first_channels(module)
        if ".downsamplers.0.conv" in name and isinstance(module, nn.Conv2d):
            # stride 2, zero padding on the right and below only: the kernel's upper left 2 x 2 is the average
            nn.init.normal_(module.weight, std=0.02)
            _carried(module).zero_()
            for channel in range(_CARRIED):
                module.weight[channel, channel, :2, :2] = 0.25
            _zero_bias(module)
        if ".upsamplers.0.conv" in name and isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
            _carried(module).zero_()
            for channel in range(_CARRIED):
                module.weight[channel, channel, 1, 1] = 1.0
            _zero_bias(module)
        if name.endswith("time_conv_out") and isinstance(module, nn.Conv3d):
            nn.init.zeros_(module.weight)
            _zero_bias(module)
            for channel in range(module.out_channels):
                module.weight[channel, channel, module.kernel_size[0] // 2] = 1.0
    for conv_in in (vae.encoder.conv_in, vae.decoder.conv_in):
        _carried(conv_in).zero_()
        for channel in range(3):
            conv_in.weight[channel, channel, 1, 1] = 1.0
        conv_in.bias[:3] = 0
        conv_in.bias[3:_CARRIED] = torch.tensor([carrier, -carrier, carrier, -carrier, carrier])[
            : _CARRIED - 3
        ]
    for network in (vae.encoder, vae.decoder):
        _undo_norm(network.conv_norm_out, network.conv_out, carrier)
    nn.init.zeros_(vae.quant_conv.weight)
    nn.init.zeros_(vae.quant_conv.bias)
    latent = vae.config["latent_channels"]
    for channel in range(2 * latent):
        vae.quant_conv.weight[channel, channel] = 1.0
    vae.quant_conv.bias[latent:] = -6.0  # log variance: start nearly without noise


def _zero_bias(layer: nn.Conv2d | nn.Conv3d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


_CARRIED = 8  # red, green, blue and five constants


def _carried(conv: nn.Conv2d) -> Tensor:
    return conv.weight[:_CARRIED]


def _pass_first_channels(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.05)
    _carried(conv).zero_()
    _zero_bias(conv)
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel] = 1.0


def _undo_norm(norm: nn.GroupNorm, conv: nn.Conv2d, carrier: float) -> None:
    """Set `conv` so that, after `norm` and SiLU, its first outputs are the norm's first three inputs."""
    size = norm.num_channels // norm.num_groups
    group = torch.zeros(size)
    constants = torch.tensor([carrier, -carrier, carrier, -carrier, carrier])[
        : max(0, min(size, _CARRIED) - 3)
    ]
    group[3 : 3 + len(constants)] = constants
    mean, std = group.mean(), group.std(correction=0)
    # SiLU(u + b) is nearly u + b for large b: lift the three channels by 3 before it, take that off after it.
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    norm.bias[:3] = 3.0
    slope = 1.0 + 0.0878  # derivative of SiLU at 3
    level = 3 * torch.sigmoid(torch.tensor(3.0))
    nn.init.normal_(
        conv.weight, std=0.02
    )  # enough for the spare latent channels to hold detail from the start
    conv.weight[:3].zero_()
    bias = torch.zeros(conv.out_channels)
    for channel in range(3):
        conv.weight[channel, channel, 1, 1] = std / slope
        bias[channel] = mean - level * std / slope
    conv.bias = nn.Parameter(bias)


@torch.no_grad()
def widen_latents(source: MiniTemporalVAE, target: MiniTemporalVAE) -> None:
    """Copy a VAE into one with as many latent channels or more; the spare ones keep their start."""
    old, new = source.config["latent_channels"], target.config["latent_channels"]
    # rows of means, then rows of log variances
    rows = [*range(old), *range(new, new + old)]
    values = source.state_dict()
    own = target.state_dict()
    for name, value in values.items():
        if name in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.bias"):
            own[name][rows] = value
        elif name == "quant_conv.weight":
            block = torch.zeros_like(own[name][rows])
            block[:, rows] = value
            own[name][rows] = block
        elif name == "decoder.conv_in.weight":
            own[name][:, :old] = value
        else:
            own[name].copy_(value)


def freeze_temporal_layers(vae: MiniTemporalVAE) -> None:
    """Freeze the decoder's temporal layers, initialised as identity, because training uses single
    pictures."""
    for name, parameter in vae.named_parameters():
        if "temporal_res_block" in name or "time_mixer" in name:
            parameter.requires_grad_(False)
    for module in vae.modules():
        if isinstance(module, TemporalResnetBlock):
            module.forward = _identity  # the same result as the initialised layer, but faster


def _identity(hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
    return hidden_states
