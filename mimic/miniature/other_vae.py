"""Put MimicMotion's miniature on another VAE: weights are kept wherever their shapes agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import vae_downscale

LOWEST_SIGMA = 0.02
"""Noise level of the sampler's last step but one, for sampling in many steps; one step begins at the prior's
highest and ends at 0."""


def pose_strides(downscale: int) -> tuple[int, ...]:
    """Return PoseNet's strides for latents `downscale` times smaller: the released pattern, cut short."""
    num_halvings = downscale.bit_length() - 1
    return tuple(2 if layer in (1, 3, 5)[:num_halvings] else 1 for layer in range(8))


def on_other_vae(prior: MimicMotionPipeline, vae: MiniTemporalVAE) -> MimicMotionPipeline:
    """Return a pipeline with another VAE, to be trained further.

    Of the UNet, the first and last convolutions begin anew, because latents are others. PoseNet gets a
    halving for each of the VAE's; a convolution that now halves begins with what it computed before, averaged
    over 2 x 2 pixels. The sampler goes down to low noise, because the new model is trained on all of it.

    Args:
        prior: pipeline from which UNet, PoseNet and image encoder are taken.
        vae: 8x down, for example.
    """
    channels, downscale = vae.config["latent_channels"], vae_downscale(vae)
    config = {
        name: value
        for name, value in prior.unet.config.items()
        if not name.startswith("_") and name not in ("in_channels", "out_channels", "sample_size")
    }
    size = vae.config["sample_size"]
    unet = PoseConditionedSVDUNet(
        **config, in_channels=2 * channels, out_channels=channels, sample_size=size // downscale
    )
    _copy(prior.unet.state_dict(), unet, anew=("conv_in.weight", "conv_out.weight", "conv_out.bias"))
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
    pose_net = PoseNet(
        noise_latent_channels=prior.pose_net.config["noise_latent_channels"],
        channels=tuple(prior.pose_net.config["channels"]),
        strides=pose_strides(downscale),
    )
    given = {
        name: _halving(value) if value.shape[-2:] == (3, 3) and _is_halving(pose_net, name) else value
        for name, value in prior.pose_net.state_dict().items()
    }
    _copy(given, pose_net, anew=())
    pipeline = MimicMotionPipeline(
        vae=vae,
        image_encoder=prior.image_encoder,
        unet=unet,
        scheduler=svd_scheduler(sigma_min=LOWEST_SIGMA, sigma_max=prior.scheduler.config["sigma_max"]),
        feature_extractor=prior.feature_extractor,
        pose_net=pose_net,
    )
    pipeline.generation_defaults = prior.generation_defaults | {"height": size, "width": size}
    for module in (vae, unet, pose_net):
        module.requires_grad_(False).eval()
    return pipeline


def _copy(given: dict[str, Tensor], network: nn.Module, *, anew: tuple[str, ...]) -> None:
    """Load all weights but those `anew`, strictly."""
    own = network.state_dict()
    network.load_state_dict({**given, **{name: own[name] for name in anew}})


def _is_halving(pose_net: PoseNet, name: str) -> bool:
    return name.endswith(".weight") and pose_net.state_dict()[name].shape[-2:] == (4, 4)


def _halving(weight: Tensor) -> Tensor:
    """Return the 4 x 4 kernel of stride 2 that averages a 3 x 3 convolution over 2 x 2 pixels."""
    return sum(
        functional.pad(weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)
    ) / torch.tensor(4.0)
