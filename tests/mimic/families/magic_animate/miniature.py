"""The recorded miniature of MagicAnimate, put together by hand, and its recorded inputs and outputs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn

from mimic.families.magic_animate.keys import SCHEDULER, build_on_meta
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.weights.motion_keys import to_diffusers
from mimic.weights.strict import load_strictly
from tests.tiny import quiet

GOLDENS = Path(__file__).parents[3] / "goldens" / "magic_animate"
# The recordings share the picture VAE of the other family on Stable Diffusion 1.5.
VAE_WEIGHTS = GOLDENS.parent / "animate_anyone" / "weights.fp16.safetensors"
NUM_POSITIONS = 24


def recorded(name: str) -> dict[str, Tensor]:
    """The tensors of a recorded `.npz`."""
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}


def recorded_json(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def source_image() -> PIL.Image.Image:
    return PIL.Image.open(GOLDENS / "source_image.png").convert("RGB")


def released_configs() -> dict[str, dict[str, Any]]:
    """The recorded configs as Stable Diffusion's folders have them."""
    configs = recorded_json("config")
    for key in ("down_block_types", "up_block_types"):
        configs["unet"][key] = [kind.replace("3D", "2D") for kind in configs["unet"][key]]
    return configs


def released_state() -> dict[str, Tensor]:
    """All weights but the VAE's under their released names, float32."""
    state = load_file(GOLDENS / "weights.fp16.safetensors")
    return {key: tensor.float() for key, tensor in state.items()}


@functools.cache
def modules() -> dict[str, nn.Module]:
    """UNet, appearance encoder and ControlNet with the recorded weights. Shared: leave them as they are."""
    configs = released_configs()
    networks = build_on_meta(
        configs["unet"], configs["appearance_encoder"], configs["controlnet"], num_positions=NUM_POSITIONS
    )
    state = to_diffusers(released_state(), source="the recording")
    load_strictly({f"{name}.": module for name, module in networks.items()}, state, source="the recording")
    return {name: module.eval() for name, module in networks.items()}


@functools.cache
def vae() -> AutoencoderKL:
    module = AutoencoderKL.from_config(recorded_json("config")["vae"])
    state = {k[4:]: v.float() for k, v in load_file(VAE_WEIGHTS).items() if k.startswith("vae.")}
    module.load_state_dict(state)
    return module.eval()


def pipeline() -> MagicAnimatePipeline:
    """A pipeline of the recorded networks, which it shares with all others."""
    return quiet(
        MagicAnimatePipeline(
            **modules(),
            vae=vae(),
            prompt_embedding=PromptEmbedding(num_tokens=7, width=32),
            scheduler=DDIMScheduler(**SCHEDULER),
        )
    )
