"""Initialise the miniatures of Animate Anyone and MagicAnimate, and write them as model folders.

The published systems start from Stable Diffusion: denoiser and reference network have the same trained
weights, and the image encoder stays frozen. The miniatures start from the spatial layers of MimicMotion's
miniature instead. It predicts v of latents scaled to unit variance, as these two do. Its PoseNet and its
temporal layers are not used, and its first convolution is split: the denoiser gets the input channels of the
noisy latents, the reference network those of the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler
from torch import Tensor, nn
from tqdm import tqdm

from mimic.data.dataset import build_dataset
from mimic.data.settings import DataSettings
from mimic.families.animate_anyone.keys import SCHEDULER
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.base import AnimationPipeline
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.registry import load_pipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.miniature.bundle import BITS, save_bundle
from mimic.miniature.other_vae import fit_pose_network, on_other_vae
from mimic.models.mini import MiniTemporalVAE
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PoseGuider
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.training.main import settings_of
from mimic.weights.strict import WeightsError

_NUM_POSITIONS = 24  # positions along time of the motion modules, as released
_NUM_TOKENS = 4
_NUM_POSE_BATCHES, _NUM_POSE_ROUNDS = 150, 4  # of clips whose poses are learned, and how often each is seen
_TEMPORAL = ("temporal_", "time_mixer", "time_pos_embed", "add_embedding")
"""Substrings that only names of temporal layers contain."""
_WINDOWS = {
    "tile_size": 8,
    "tile_overlap": 3,
    # As the decoder is trained (mini_vae_clips.yaml); also faster on a CPU than eight frames together.
    "decode_chunk_size": 4,
}
"""How the bundled models cut clips, whatever the length of those in training."""
_LOWEST_SIGMA = 8.0
"""Noise level at which several steps of MimicMotion's end; it is trained for none below (mini.yaml)."""
_DEFAULTS = {
    "fit": "pad",
    "canvas_short_side": 480,
    **_WINDOWS,
    "num_inference_steps": 1,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 1.0,
    "fusion": "average",
    # With shared noise, frames with the same pose are equal.
    "noise": "shared",
}


def animate_anyone(prior: MimicMotionPipeline) -> AnimateAnyonePipeline:
    """Build an untrained miniature of Animate Anyone.

    Args:
        prior: MimicMotion pipeline from which VAE, image encoder and spatial layers are taken.
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
    # Small but not zero, so that the pose has an effect from the first step without dominating.
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
    """Build an untrained miniature of MagicAnimate.

    Its scheduler is that of Animate Anyone, with v-prediction and pure noise at the last timestep, so that
    sampling in a single step is possible; a prediction of the noise does not allow this.

    Args:
        prior: MimicMotion pipeline from which VAE, image encoder and spatial layers are taken.
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
"""Functions that build the untrained miniature, by family."""
_TITLES = {"animate_anyone": "Animate Anyone", "magic_animate": "MagicAnimate"}


def start(family: str, prior: MimicMotionPipeline, *, seed: int = 0) -> AnimationPipeline[Any, Any]:
    """Build an untrained miniature of a family of `STARTS`, with its default settings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = STARTS[family](prior)
    pipeline.generation_defaults = _DEFAULTS | {
        **{side: prior.generation_defaults[side] for side in ("height", "width")},
        "description": f"A miniature of {_TITLES[family]} for demonstration, trained on synthetic dancers.",
        "warning": (
            f"this is a miniature of {_TITLES[family]} for demonstration that knows synthetic dancers only, "
            "not real people; for those get the released weights with "
            f"`mimic download {family.replace('_', '-')}`."
        ),
    }
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            use_fast_temporal_convolutions(module)
            module.requires_grad_(False).eval()
    return pipeline


def _architecture(prior: MimicMotionPipeline) -> dict[str, Any]:
    """Return the arguments that the spatial layers of all networks share with the prior."""
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
    """Return the block types, with attention at the same levels as in the prior."""
    config = prior.unet.config
    return {
        key: tuple(name.replace("SpatioTemporal", kind) for name in config[key])
        for key in ("down_block_types", "up_block_types")
    }


def _guider_channels(prior: MimicMotionPipeline) -> tuple[int, ...]:
    """Return the widths of a pose encoder that downsamples as often as the VAE."""
    return tuple(16 * 2**level for level in range(prior.pixels_per_latent.bit_length()))


def _spatial_states(prior: MimicMotionPipeline) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the prior's spatial weights under Stable Diffusion's names, for denoiser and reference
    network."""
    shared = {}
    for name, value in prior.unet.state_dict().items():
        if any(part in name for part in _TEMPORAL):
            continue
        # A linear layer of the prior is a 1x1 convolution here.
        is_projection = name.endswith(("proj_in.weight", "proj_out.weight"))
        shared[name.replace(".spatial_res_block.", ".")] = value[..., None, None] if is_projection else value
    noisy, picture = shared.pop("conv_in.weight").chunk(2, dim=1)
    # The prior takes unscaled latents of the reference, the other two take scaled ones.
    picture = picture / prior.vae.config.scaling_factor
    return {**shared, "conv_in.weight": noisy}, {**shared, "conv_in.weight": picture}


def _begin_with(network: nn.Module, state: Mapping[str, Tensor], *, kept: tuple[str, ...]) -> None:
    """Load those weights of `state` that the network has.

    Args:
        network: the network.
        state: weights by name.
        kept: substrings of names of weights that keep their initial value.

    Raises:
        WeightsError: `state` lacks another weight.
    """
    own = network.state_dict()
    absent = [name for name in own if name not in state and not any(part in name for part in kept)]
    if absent:
        raise WeightsError(f"the prior has no weights for {', '.join(absent[:5])} ({len(absent)} in all)")
    network.load_state_dict({**own, **{name: value for name, value in state.items() if name in own}})


def on_larger_vae(
    prior: AnimationPipeline[Any, Any], vae: MiniTemporalVAE, data: DataSettings
) -> AnimationPipeline[Any, Any]:
    """Put a miniature on a VAE that keeps its latents, ready to be trained further.

    Args:
        prior: the miniature.
        vae: its first latents are those of the prior's VAE for the picture at half size.
        data: synthetic dancers, of whose poses the network that takes them learns what the prior's computes.
    """
    pipeline = on_other_vae(prior, vae)
    if isinstance(prior, MimicMotionPipeline) or pipeline.pixels_per_latent == prior.pixels_per_latent:
        return pipeline  # the network of the poses computes what the prior's does from the start
    dataset = build_dataset(data, split="train", seed=0)
    batches = [
        dataset[0, number].pose_maps.float() / 127.5 - 1
        for number in tqdm(range(_NUM_POSE_BATCHES), desc="poses", mininterval=5)
    ]
    num_steps = _NUM_POSE_ROUNDS * len(batches)
    order = torch.randperm(num_steps, generator=torch.Generator().manual_seed(0)).tolist()
    maps = (batches[number % len(batches)] for number in tqdm(order, desc="pose network", mininterval=5))
    missed = fit_pose_network(pipeline, prior, maps, num_steps=num_steps)
    print(f"the network of the poses misses {100 * missed:.1f} % of the variance")
    return pipeline


def _check_same_latents(trained_on: MiniTemporalVAE, other: MiniTemporalVAE) -> None:
    """Raise `WeightsError` unless both VAEs have the same encoder, up to the precision of bundled weights."""
    theirs = other.encoder.state_dict()
    for name, value in trained_on.encoder.state_dict().items():
        if value.shape != theirs[name].shape or not torch.allclose(
            value, theirs[name], rtol=2.0**-BITS, atol=2e-3
        ):
            raise WeightsError(f"the VAE of --decoder has another encoder ({name}), so other latents")


def main() -> None:
    """Write the model folder from which a miniature is trained, or the bundled one of a trained miniature."""
    parser = argparse.ArgumentParser(prog="python -m mimic.miniature.start", description=main.__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--family",
        choices=tuple(STARTS),
        help="write the untrained miniature of this family",
    )
    source.add_argument(
        "--vae", type=Path, help="write the prior, of any family, on this VAE that keeps its latents"
    )
    source.add_argument("--trained", type=Path, help="bundle this trained model folder, in half precision")
    parser.add_argument("--prior", default="bundled:mini", help="the miniature to start from")
    parser.add_argument("--config", type=Path, help="with --vae: the YAML of the training, for its data")
    parser.add_argument("--output", required=True, type=Path, help="the model folder to write")
    parser.add_argument("--steps", type=int, help="default number of steps of the bundled model")
    parser.add_argument(
        "--decoder",
        type=Path,
        help="with --trained: a VAE whose decoder was trained further, for the bundled model",
    )
    options = parser.parse_args()
    if (options.vae is None) != (options.config is None):
        parser.error("--vae and --config, the YAML of the training, are given together")
    pipeline: AnimationPipeline[Any, Any]
    if options.trained is None:
        prior = load_pipeline(options.prior, dtype=torch.float32, device="cpu")
        if options.vae is not None:
            data = settings_of(options.config).data
            pipeline = on_larger_vae(prior, MiniTemporalVAE.from_pretrained(options.vae), data)
        else:
            pipeline = start(options.family, prior)
        pipeline.save_pretrained(options.output, safe_serialization=True)
        size = sum(file.stat().st_size for file in options.output.rglob("*.safetensors"))
    else:
        pipeline = load_pipeline(options.trained, dtype=torch.float32, device="cpu")
        if options.decoder is not None:
            vae = MiniTemporalVAE.from_pretrained(options.decoder)
            _check_same_latents(pipeline.vae, vae)
            # The denoiser was trained on latents of this scale; the decoder's training measured its own.
            vae.register_to_config(scaling_factor=pipeline.vae.config["scaling_factor"])
            pipeline.register_modules(vae=vae)
        pipeline.generation_defaults |= _WINDOWS
        if isinstance(pipeline, MimicMotionPipeline):
            pipeline.scheduler = svd_scheduler(
                sigma_min=_LOWEST_SIGMA, sigma_max=pipeline.scheduler.config["sigma_max"]
            )
        if options.steps is not None:
            pipeline.generation_defaults["num_inference_steps"] = options.steps
        size = save_bundle(pipeline, options.output)
    print(f"{options.output}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
