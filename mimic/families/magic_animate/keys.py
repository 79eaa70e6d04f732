"""Load and write the released MagicAnimate weights: their files, their key layout, parts of the base
model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from mimic.families.base import quiet_libraries
from mimic.families.stable_diffusion import (
    SCHEDULER,
    VAE_FILES,
    motion_unet,
    num_positions,
    reference_unet,
)
from mimic.models.motion_unet import MotionUNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet
from mimic.weights.motion_keys import is_motion_key, to_diffusers, to_released
from mimic.weights.parts import load_part, loading, read_part, require
from mimic.weights.sources import resolve
from mimic.weights.strict import State, WeightsError, load_strictly, read_state, without_prefixes

APPEARANCE_ENCODER, CONTROLNET = "appearance_encoder", "densepose_controlnet"
TEMPORAL = "temporal_attention/temporal_attention.ckpt"
_HUB_FILES = (f"{APPEARANCE_ENCODER}/*", f"{CONTROLNET}/*", "temporal_attention/*")


@loading()
def load_released(
    base: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    vae: str | os.PathLike[str] | None,
    dtype: torch.dtype,
    variant: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """Load the components of a `MagicAnimatePipeline` by name; see `MagicAnimatePipeline.from_original`."""
    released = resolve(checkpoint, wanted=_HUB_FILES, local_files_only=local_files_only)
    base = resolve(base, variant=variant, local_files_only=local_files_only)
    of_vae = base / "vae"
    if vae is not None:
        of_vae = resolve(vae, wanted=VAE_FILES, local_files_only=local_files_only)
    _check_files(base, released, of_vae)
    temporal = read_temporal(released / TEMPORAL, dtype=dtype)
    states = {
        "appearance_encoder": read_part(released / APPEARANCE_ENCODER, variant=variant, dtype=dtype),
        "controlnet": read_part(released / CONTROLNET, variant=variant, dtype=dtype),
        "unet": read_part(base / "unet", variant=variant, dtype=dtype) | temporal,
    }
    modules = build_on_meta(
        MotionUNet.load_config(base / "unet"),
        ReferenceUNet.load_config(released / APPEARANCE_ENCODER),
        ControlNetModel.load_config(released / CONTROLNET),
        num_positions=num_positions(temporal, source=released / TEMPORAL),
    )
    # Errors of all networks are reported together; the UNet's spatial keys come from `base`.
    load_strictly(
        {f"{name}.": module for name, module in modules.items()},
        {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()},
        source=released,
        dtype=dtype,
    )
    with quiet_libraries():
        return {
            **{name: module.eval() for name, module in modules.items()},
            "vae": load_part(AutoencoderKL, of_vae, dtype=dtype, variant=variant),
            "prompt_embedding": PromptEmbedding.of(embed_empty_prompt(base).to(dtype)),
            "scheduler": DDIMScheduler(**SCHEDULER),
        }


def build_on_meta(
    unet: Mapping[str, Any],
    appearance_encoder: Mapping[str, Any],
    controlnet: Mapping[str, Any],
    *,
    num_positions: int,
) -> dict[str, nn.Module]:
    """Build the trained networks on the meta device, with shapes but without memory.

    Args:
        unet, appearance_encoder, controlnet: configs in Stable Diffusion's layout.
        num_positions: number of positions along time that the temporal attention encodes.

    Returns:
        ``unet``, ``appearance_encoder`` and ``controlnet``.
    """
    with torch.device("meta"):
        return {
            "unet": motion_unet(
                unet, num_positions=num_positions, use_motion_mid_block=False, residual_norms="clip"
            ),
            "appearance_encoder": reference_unet(appearance_encoder, ends_with_norm=True),
            "controlnet": ControlNetModel.from_config(dict(controlnet)),
        }


def read_temporal(path: Path, *, dtype: torch.dtype | None = None) -> State:
    """Read the temporal attention and rename its keys to those of our UNet.

    Prefixes added by training frameworks (``module.``, ``unet.``) are removed.

    Raises:
        WeightsError: the file holds no temporal attention, or cannot be read.
    """
    state = without_prefixes(read_state(path, dtype=dtype), "module.", "unet.", source=path)
    if not any(is_motion_key(key) for key in state):
        raise WeightsError(
            f"{path} holds no temporal attention: none of its {len(state)} keys contains motion_modules; "
            "give the released temporal_attention.ckpt."
        )
    return to_diffusers(state, source=path)


def released_temporal(unet: nn.Module) -> State:
    """Return the temporal attention of a UNet under its released keys; the inverse of `read_temporal`."""
    return {key: tensor for key, tensor in to_released(unet.state_dict()).items() if is_motion_key(key)}


@torch.no_grad()
def embed_empty_prompt(base: Path) -> Tensor:
    """Embed the empty prompt with the base's text encoder; ``1 x L x D``, float32."""
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    encoder = load_part(CLIPTextModel, base / "text_encoder", dtype=torch.float32)
    length = encoder.config.max_position_embeddings
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoder(tokens.input_ids)[0]


def _check_files(base: Path, released: Path, of_vae: Path) -> None:
    networks = (
        base / "unet",
        base / "text_encoder",
        released / APPEARANCE_ENCODER,
        released / CONTROLNET,
        of_vae,
    )
    require(
        [*(folder / "config.json" for folder in networks), base / "tokenizer", released / TEMPORAL],
        "Give the folder of Stable Diffusion 1.5 in diffusers' layout and the released MagicAnimate folder "
        f"with {APPEARANCE_ENCODER}/, {CONTROLNET}/ and {TEMPORAL}.",
    )
