"""Where the miniatures of Animate Anyone and MagicAnimate begin, and how they become model folders.

The published systems begin as Stable Diffusion: denoiser and reference network with the same trained weights,
an image encoder that is never trained again. For the miniatures, the spatial layers of MimicMotion's
miniature stand in for that. It predicts v of latents scaled to unit variance, as these two do; what it knows
of poses (PoseNet) and of time is left out, and each network gets one half of its first convolution: the
denoiser that which sees noisy latents, the reference network that which sees the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler
from torch import Tensor, nn

from mimic.families.animate_anyone.keys import SCHEDULER
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.base import AnimationPipeline
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.registry import load_pipeline
from mimic.miniature.bundle import save_bundle
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PoseGuider
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.weights.strict import WeightsError

_NUM_POSITIONS = 24  # as released: frames that motion modules know
_NUM_TOKENS = 4
_TEMPORAL = ("temporal_", "time_mixer", "time_pos_embed", "add_embedding")
"""Parts of names that only layers along time have."""
_DEFAULTS = {
    "height": 96,
    "width": 96,
    "fit": "pad",
    "canvas_short_side": 480,
    "tile_size": 8,
    "tile_overlap": 3,
    "num_inference_steps": 1,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 1.0,
    "fusion": "average",
    # Frames differ by their poses alone: a still pose then stands still.
    "noise": "shared",
    "decode_chunk_size": 8,
}


def animate_anyone(prior: MimicMotionPipeline) -> AnimateAnyonePipeline:
    """An untrained miniature of Animate Anyone.

    Args:
        prior: the MimicMotion pipeline whose VAE, image encoder and spatial layers it begins with.
    """
    spatial, first_width = _architecture(prior), prior.unet.config.block_out_channels[0]
    reference_unet = ReferenceUNet(**spatial, **_block_types("2D", prior))
    unet = MotionUNet(
        **spatial,
        **_block_types("Motion", prior),
        out_channels=spatial["in_channels"],
        motion_max_seq_length=_NUM_POSITIONS,
        motion_num_attention_heads=2,
        motion_norm_num_groups=spatial["norm_num_groups"],
    )
    pose_guider = PoseGuider(first_width, channels=_guider_channels(prior))
    # Small, not zero: the pose must matter from the first step, but not drown the picture.
    nn.init.normal_(pose_guider.conv_out.weight, std=0.02)
    denoiser, reference = _spatial_states(prior)
    _begin_with(reference_unet, reference, kept=())
    _begin_with(unet, denoiser, kept=("motion_modules",))
    return AnimateAnyonePipeline(
        vae=prior.vae,
        image_encoder=prior.image_encoder,
        reference_unet=reference_unet,
        unet=unet,
        pose_guider=pose_guider,
        scheduler=DDIMScheduler(**SCHEDULER),
        feature_extractor=prior.feature_extractor,
    )


def magic_animate(prior: MimicMotionPipeline) -> MagicAnimatePipeline:
    """An untrained miniature of MagicAnimate; the argument as for `animate_anyone`.

    Its scheduler is Animate Anyone's, which ends in pure noise and predicts v: one step can then go all the
    way, which no prediction of the noise can.
    """
    spatial = _architecture(prior)
    unet = MotionUNet(
        **spatial,
        **_block_types("Motion", prior),
        out_channels=spatial["in_channels"],
        motion_max_seq_length=_NUM_POSITIONS,
        motion_num_attention_heads=2,
        motion_norm_num_groups=spatial["norm_num_groups"],
        use_motion_mid_block=False,
        residual_norms="clip",
    )
    appearance_encoder = ReferenceUNet(**spatial, **_block_types("2D", prior), ends_with_norm=True)
    control = {name: value for name, value in spatial.items() if name != "sample_size"}
    control["attention_head_dim"] = control.pop("num_attention_heads")  # diffusers' name for the number
    controlnet = ControlNetModel(
        **control,
        down_block_types=_block_types("2D", prior)["down_block_types"],
        conditioning_embedding_out_channels=_guider_channels(prior),
    )
    denoiser, reference = _spatial_states(prior)
    _begin_with(unet, denoiser, kept=("motion_modules",))
    _begin_with(appearance_encoder, reference, kept=())
    _begin_with(controlnet, denoiser, kept=("controlnet_",))
    for name, parameter in controlnet.named_parameters():
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) or ".conv_out." in name:
            nn.init.normal_(parameter, std=0.02)
    prompt_embedding = PromptEmbedding(num_tokens=_NUM_TOKENS, width=spatial["cross_attention_dim"])
    nn.init.normal_(prompt_embedding.embedding)
    return MagicAnimatePipeline(
        vae=prior.vae,
        unet=unet,
        appearance_encoder=appearance_encoder,
        controlnet=controlnet,
        prompt_embedding=prompt_embedding,
        scheduler=DDIMScheduler(**SCHEDULER),
    )


STARTS: Mapping[str, Callable[[MimicMotionPipeline], AnimationPipeline[Any, Any]]] = {
    "animate_anyone": animate_anyone,
    "magic_animate": magic_animate,
}
"""Family to the function that makes its untrained miniature."""
_TITLES = {"animate_anyone": "Animate Anyone", "magic_animate": "MagicAnimate"}


def start(family: str, prior: MimicMotionPipeline, *, seed: int = 0) -> AnimationPipeline[Any, Any]:
    """An untrained miniature of a family of `STARTS`, with its defaults."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = STARTS[family](prior)
    pipeline.generation_defaults = _DEFAULTS | {
        "description": f"A miniature of {_TITLES[family]} for demonstration, trained on synthetic dancers.",
        "warning": (
            f"this is a miniature of {_TITLES[family]} for demonstration that knows synthetic dancers only, "
            f"not real people; for those get the released weights (see configs/{family}.yaml)."
        ),
    }
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            use_fast_temporal_convolutions(module)
            module.requires_grad_(False).eval()
    return pipeline


def _architecture(prior: MimicMotionPipeline) -> dict[str, Any]:
    """What the spatial layers of all networks have in common with the prior's."""
    config = prior.unet.config
    return {
        "sample_size": config.sample_size,
        "in_channels": config.out_channels,
        "block_out_channels": tuple(config.block_out_channels),
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "cross_attention_dim": config.cross_attention_dim,
        "num_attention_heads": config.num_attention_heads[-1],
    }


def _block_types(kind: str, prior: MimicMotionPipeline) -> dict[str, tuple[str, ...]]:
    """Blocks of `kind` with attention where the prior has it."""
    config = prior.unet.config
    return {
        key: tuple(name.replace("SpatioTemporal", kind) for name in config[key])
        for key in ("down_block_types", "up_block_types")
    }


def _guider_channels(prior: MimicMotionPipeline) -> tuple[int, ...]:
    """Widths of a pose encoder, with as many halvings as the VAE has."""
    return tuple(16 * 2**level for level in range(prior.pixels_per_latent.bit_length()))


def _spatial_states(prior: MimicMotionPipeline) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The prior's spatial weights under Stable Diffusion's names: a denoiser's, a reference network's."""
    shared = {}
    for name, value in prior.unet.state_dict().items():
        if any(part in name for part in _TEMPORAL):
            continue
        # A linear layer there is a 1x1 convolution here.
        is_projection = name.endswith(("proj_in.weight", "proj_out.weight"))
        shared[name.replace(".spatial_res_block.", ".")] = value[..., None, None] if is_projection else value
    noisy, picture = shared.pop("conv_in.weight").chunk(2, dim=1)
    # The prior sees the reference's latents without the scaling factor, the other two with it.
    picture = picture / prior.vae.config.scaling_factor
    return {**shared, "conv_in.weight": noisy}, {**shared, "conv_in.weight": picture}


def _begin_with(network: nn.Module, state: Mapping[str, Tensor], *, kept: tuple[str, ...]) -> None:
    """Load what the network has of `state`.

    Args:
        kept: parts of names that may stay as they are.

    Raises:
        WeightsError: another weight has no match.
    """
    own = network.state_dict()
    absent = [name for name in own if name not in state and not any(part in name for part in kept)]
    if absent:
        raise WeightsError(f"the prior has no weights for {', '.join(absent[:5])} ({len(absent)} in all)")
    network.load_state_dict({**own, **{name: value for name, value in state.items() if name in own}})


def main() -> None:
    """Make the folder that a miniature's training begins with, or the bundled one of what was trained."""
    parser = argparse.ArgumentParser(prog="python -m mimic.miniature.start", description=main.__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--family", choices=tuple(STARTS), help="make this family's untrained miniature")
    source.add_argument("--trained", type=Path, help="bundle this model folder: half precision")
    parser.add_argument("--prior", default="bundled:mini", help="the MimicMotion model to begin with")
    parser.add_argument("--output", required=True, type=Path, help="the model folder to write")
    parser.add_argument("--steps", type=int, help="steps that the bundled one takes unless told otherwise")
    options = parser.parse_args()
    if options.family is not None:
        prior = load_pipeline(options.prior, dtype=torch.float32, device="cpu")
        pipeline = start(options.family, prior)
        pipeline.save_pretrained(options.output, safe_serialization=True)
        size = sum(file.stat().st_size for file in options.output.rglob("*.safetensors"))
    else:
        pipeline = load_pipeline(options.trained, dtype=torch.float32, device="cpu")
        if options.steps is not None:
            pipeline.generation_defaults["num_inference_steps"] = options.steps
        size = save_bundle(pipeline, options.output)
    print(f"{options.output}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
