"""Put a miniature on a VAE that keeps its latents among others (`mimic.miniature.kept_latents`).

Legend: N pose maps, H x W their size, K channels of the old latents, C of the new.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.base import AnimationPipeline
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.miniature.kept_latents import half_size
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.vae import vae_downscale

_FIRST_WIDTH = 16  # of PoseNet, where it halves once more
_POSE_NETWORKS = {
    AnimateAnyonePipeline: "pose_guider",
    MagicAnimatePipeline: "controlnet.controlnet_cond_embedding",
}


def pose_strides(downscale: int) -> tuple[int, ...]:
    """Return PoseNet's strides for latents `downscale` times smaller: the released pattern, cut short."""
    num_halvings = downscale.bit_length() - 1
    return tuple(2 if layer in (1, 3, 5)[:num_halvings] else 1 for layer in range(8))


def on_other_vae(prior: AnimationPipeline[Any, Any], vae: MiniTemporalVAE) -> AnimationPipeline[Any, Any]:
    """Return a pipeline with a VAE that keeps the latents of that of `prior`, to be trained further.

    All weights are kept. The first and last convolutions gain the VAE's spare channels, which have no effect
    at first. The network that takes the poses halves once more for each of the VAE's halvings: PoseNet begins
    with what the prior's computes at half size; the other families' networks begin untrained, and
    `fit_pose_network` teaches them that.

    Args:
        prior: pipeline of any family of miniatures.
        vae: its first latent channels are those of the prior's VAE. Where it goes no further down, networks
            that take poses stay as they are.
    """
    parts = dict(prior.components)
    channels, downscale = vae.config["latent_channels"], vae_downscale(vae)
    size = vae.config["sample_size"]
    parts["vae"] = vae
    halvings = (downscale // prior.pixels_per_latent).bit_length() - 1
    for name in ("unet", "reference_unet", "appearance_encoder", "controlnet"):
        if name in parts:
            parts[name] = _widened(
                parts[name],
                prior.vae.config["latent_channels"],
                channels,
                size=size // downscale,
                halvings=halvings,
            )
    if isinstance(prior, MimicMotionPipeline):
        for _ in range(halvings):
            parts["pose_net"] = halved_first(parts["pose_net"])
    elif isinstance(prior, AnimateAnyonePipeline) and halvings:
        widths = tuple(prior.pose_guider.config["channels"])
        parts["pose_guider"] = _anew(prior.pose_guider, channels=(*widths[:1] * halvings, *widths))
    pipeline = type(prior)(**parts)
    pipeline.generation_defaults = prior.generation_defaults | {"height": size, "width": size}
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False).eval()
    return pipeline


def halved_first(prior: PoseNet) -> PoseNet:
    """Return a PoseNet for pose maps of twice the size that computes what `prior` does for their average over
    2 x 2 pixels.

    The two layers before the prior's keep each value v as ``silu(v) - silu(-v) = v``. New channels beside
    theirs begin with random weights and no effect, so that training can put finer strokes to use.
    """
    widths, strides = tuple(prior.config["channels"]), tuple(prior.config["strides"])
    wide = max(widths[0], _FIRST_WIDTH)
    larger: PoseNet = _anew(prior, channels=(6, wide, wide, *widths[1:]), strides=(1, 2, *strides))
    both = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, 1, 1, -1, -1, -1])[:, None]  # 6 x 3: v and -v
    once = both.T  # 3 x 6: silu(v) - silu(-v)
    state, before = larger.state_dict(), prior.state_dict()
    kept = torch.zeros(6, 3, 3, 3)
    kept[:, :, 1, 1] = both
    state["conv_layers.0.weight"] = kept
    mean = torch.zeros(6, 6, 4, 4)
    mean[:, :, 1:3, 1:3] = (both @ once / 4)[..., None, None]
    state["conv_layers.2.weight"][:6] = mean
    for name, value in before.items():
        layer = name.split(".")
        if layer[0] != "conv_layers":
            state[name] = value
            continue
        index = int(layer[1])
        place = f"conv_layers.{index + 4}.{layer[2]}"
        if index > 2 or layer[2] == "bias":
            state[place][: len(value)] = value
            continue
        # The first layer takes v and -v.
        weight = torch.einsum("oihw,ij->ojhw", value, once) if index == 0 else value
        state[place][: len(weight)] = 0
        state[place][: len(weight), : weight.shape[1]] = weight
    larger.load_state_dict(state)
    return larger


def fit_pose_network(
    pipeline: AnimationPipeline[Any, Any],
    prior: AnimationPipeline[Any, Any],
    maps: Iterable[Tensor],
    *,
    num_steps: int,
    learning_rate: float = 3e-3,
) -> float:
    """Teach the network that takes the poses what the prior's computes for the same poses at half size; not
    for MimicMotion, whose PoseNet begins with it.

    Args:
        pipeline: of `on_other_vae`, changed in place.
        prior: the pipeline it was made of.
        maps: one batch for each step, ``N x 3 x H x W`` in [-1, 1] at the size of `pipeline`.
        num_steps: number of batches.
        learning_rate: of Adam; it falls along a cosine.

    Returns:
        The mean squared error of the last tenth of the steps, divided by the variance of what is learned.
    """
    name = next(name for kind, name in _POSE_NETWORKS.items() if isinstance(prior, kind))
    ours, theirs = (operator.attrgetter(name)(each) for each in (pipeline, prior))
    ours.requires_grad_(True)
    optimiser = torch.optim.Adam(ours.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    errors = []
    takes_fractions = isinstance(prior, MagicAnimatePipeline)  # a ControlNet takes [0, 1]
    for given in maps:
        batch = given / 2 + 0.5 if takes_fractions else given
        with torch.no_grad():
            expected = theirs(half_size(batch))
        loss = (ours(batch) - expected).square().mean() / expected.var()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        errors.append(loss.item())
    ours.requires_grad_(False)
    last = errors[-max(1, len(errors) // 10) :]
    return sum(last) / len(last)


def _widened(network: Any, old: int, new: int, *, size: int, halvings: int) -> Any:
    """Return the network with `new` instead of `old` channels in each of the latents it takes or gives; a
    ControlNet's embedding of poses halves `halvings` times more, and then begins untrained."""
    num_inputs = network.config["in_channels"] // old  # noisy latents, and MimicMotion's reference
    changes: dict[str, Any] = {"in_channels": num_inputs * new}
    state = network.state_dict()
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat(
        [functional.pad(part, (0, 0, 0, 0, 0, new - old)) for part in weight.chunk(num_inputs, dim=1)], dim=1
    )
    if "sample_size" in network.config:
        changes["sample_size"] = size
    if "conv_out.weight" in state:  # reference networks have none
        changes["out_channels"] = new
        for name in ("conv_out.weight", "conv_out.bias"):
            value = state[name]
            state[name] = torch.cat([value, value.new_zeros(new - old, *value.shape[1:])])
    if halvings and "conditioning_embedding_out_channels" in network.config:  # a ControlNet
        widths = tuple(network.config["conditioning_embedding_out_channels"])
        changes["conditioning_embedding_out_channels"] = (*widths[:1] * halvings, *widths)
    larger = _anew(network, **changes)
    embedding = "controlnet_cond_embedding."
    anew = {
        name: value for name, value in larger.state_dict().items() if halvings and name.startswith(embedding)
    }
    kept = {name: value for name, value in state.items() if not (halvings and name.startswith(embedding))}
    larger.load_state_dict(kept | anew)
    return larger


def _anew(network: Any, **changes: Any) -> Any:
    """Return a network of the same class with random weights and some arguments changed."""
    known = inspect.signature(type(network).__init__).parameters
    config = {name: value for name, value in network.config.items() if name in known}
    return type(network)(**{**config, **changes})
