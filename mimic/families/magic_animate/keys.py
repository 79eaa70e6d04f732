"""The released MagicAnimate weights: which files they are, where their keys go, what the base model adds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from mimic.families.base import quiet_libraries
from mimic.models.motion_unet import MotionUNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet
from mimic.weights.motion_keys import is_motion_key, to_diffusers, to_released
from mimic.weights.sources import SourceError, resolve, snapshot
from mimic.weights.strict import State, WeightsError, check_loading_info, load_strictly, read_state

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "steps_offset": 1,
    "clip_sample": False,
}
"""Of `DDIMScheduler`: the released configuration, with what the released pipeline changes in it."""

APPEARANCE_ENCODER, CONTROLNET = "appearance_encoder", "densepose_controlnet"
TEMPORAL = "temporal_attention/temporal_attention.ckpt"
_WEIGHTS = "diffusion_pytorch_model"
_HUB_FILES = (f"{APPEARANCE_ENCODER}/*", f"{CONTROLNET}/*", "temporal_attention/*")
_TEXT_BUFFERS = ("text_model.embeddings.position_ids", "embeddings.position_ids")
_UNET_KEYS = (
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "sample_size",
)


_PREFIXES = re.compile(r"^((module|unet)\.)+")


def load_released(
    base: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    vae: str | os.PathLike[str] | None,
    dtype: torch.dtype,
    variant: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """The components of a `MagicAnimatePipeline` (see `MagicAnimatePipeline.from_original`)."""
    released = _folder(checkpoint, _HUB_FILES, local_files_only)
    base = resolve(base, variant=variant, local_files_only=local_files_only)
    vae_folder = base / "vae" if vae is None else _folder(vae, ("*.json", "*.safetensors"), local_files_only)
    _check_files(base, released, vae_folder)
    state = {f"appearance_encoder.{k}": v for k, v in _read(released / APPEARANCE_ENCODER, variant).items()}
    state |= {f"controlnet.{k}": v for k, v in _read(released / CONTROLNET, variant).items()}
    temporal = read_temporal(released / TEMPORAL)
    state |= {f"unet.{k}": v for k, v in (_read(base / "unet", variant) | temporal).items()}
    modules = build_on_meta(
        MotionUNet.load_config(base / "unet"),
        ReferenceUNet.load_config(released / APPEARANCE_ENCODER),
        ControlNetModel.load_config(released / CONTROLNET),
        num_positions=num_positions(temporal, source=released / TEMPORAL),
    )
    # The file's sentence names each key with its network; `base` gave those of the UNet that know no time.
    prefixed = {f"{name}.": module for name, module in modules.items()}
    load_strictly(prefixed, state, source=released, dtype=dtype)
    with quiet_libraries():
        decoder, info = AutoencoderKL.from_pretrained(
            vae_folder, torch_dtype=dtype, variant=_variant_of(vae_folder, variant), output_loading_info=True
        )
        check_loading_info(info, source=vae_folder)
        embedding = embed_empty_prompt(base).to(dtype)
    return {
        **{name: module.eval() for name, module in modules.items()},
        "vae": decoder.eval(),
        "prompt_embedding": PromptEmbedding.of(embedding),
        "scheduler": DDIMScheduler(**SCHEDULER),
    }


def build_on_meta(
    unet: Mapping[str, Any],
    appearance_encoder: Mapping[str, Any],
    controlnet: Mapping[str, Any],
    *,
    num_positions: int,
) -> dict[str, nn.Module]:
    """The trained networks of configs of Stable Diffusion's layout, with shapes but without memory."""
    with torch.device("meta"):
        return {
            "unet": MotionUNet(
                **_common(unet),
                down_block_types=tuple(kind.replace("2D", "Motion") for kind in unet["down_block_types"]),
                up_block_types=tuple(kind.replace("2D", "Motion") for kind in unet["up_block_types"]),
                motion_max_seq_length=num_positions,
                use_motion_mid_block=False,
                residual_norms="clip",
            ),
            "appearance_encoder": ReferenceUNet(
                **_common(appearance_encoder),
                down_block_types=tuple(appearance_encoder["down_block_types"]),
                up_block_types=tuple(appearance_encoder["up_block_types"]),
                ends_with_norm=True,
            ),
            "controlnet": ControlNetModel.from_config(dict(controlnet)),
        }


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that a Stable Diffusion config shares with our networks."""
    given = {key: config[key] for key in _UNET_KEYS if key in config}
    given["block_out_channels"] = tuple(given["block_out_channels"])
    # SD 1.5 calls the number of heads by this name.
    return given | {"num_attention_heads": config.get("num_attention_heads") or config["attention_head_dim"]}


def read_temporal(path: Path) -> State:
    """The temporal attention under diffusers' names, as they are in the UNet.

    A training framework's prefixes (``module.``, ``unet.``) are taken off.

    Raises:
        WeightsError: the file holds no temporal attention, or cannot be read.
    """
    state = {_PREFIXES.sub("", key): tensor for key, tensor in read_state(path).items()}
    if not any(is_motion_key(key) for key in state):
        raise WeightsError(
            f"{path} holds no temporal attention: none of its {len(state)} keys has motion_modules in it; "
            "give the released temporal_attention.ckpt."
        )
    return to_diffusers(state, source=path)


def num_positions(temporal: Mapping[str, Tensor], *, source: object) -> int:
    """How many positions along time the tables of a temporal attention have.

    Raises:
        WeightsError: there is no table.
    """
    lengths = {tensor.shape[1] for key, tensor in temporal.items() if key.endswith("pos_embed.pe")}
    if len(lengths) != 1:
        raise WeightsError(
            f"{source} has tables of positions of the lengths {sorted(lengths)}; expected one."
        )
    return lengths.pop()


def released_temporal(unet: nn.Module) -> State:
    """The temporal attention of a UNet under its released keys; the inverse of `read_temporal`."""
    return {key: tensor for key, tensor in to_released(unet.state_dict()).items() if is_motion_key(key)}


@torch.no_grad()
def embed_empty_prompt(base: Path) -> Tensor:
    """What the base's text encoder makes of the empty sentence, ``1 x L x D``, float32."""
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    encoder, info = CLIPTextModel.from_pretrained(
        base / "text_encoder", torch_dtype=torch.float32, output_loading_info=True
    )
    check_loading_info(info, source=base / "text_encoder", optional=_TEXT_BUFFERS)
    length = encoder.config.max_position_embeddings
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoder.eval()(tokens.input_ids)[0]


def _folder(source: str | os.PathLike[str], files: tuple[str, ...], local_files_only: bool) -> Path:
    """A folder that is here, or those files of a repository of the hub."""
    if os.path.isdir(source):
        return Path(source)
    text = os.fspath(source).removeprefix("hf:")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise SourceError(f"there is no folder {source}")
    return snapshot(text, wanted=files, local_files_only=local_files_only)


def _check_files(base: Path, released: Path, vae: Path) -> None:
    missing = [
        f"{folder}/{part}/config.json"
        for folder, part in ((base, "unet"), (base, "text_encoder"), (released, APPEARANCE_ENCODER),
                             (released, CONTROLNET))
        if not (folder / part / "config.json").is_file()
    ]  # fmt: skip
    missing += [str(folder) for folder in (base / "tokenizer",) if not folder.is_dir()]
    missing += [str(file) for file in (released / TEMPORAL, vae / "config.json") if not file.is_file()]
    if missing:
        raise SourceError(
            f"not found: {', '.join(missing)}. Give the folder of Stable Diffusion 1.5 in diffusers' layout "
            f"and the released MagicAnimate folder with {APPEARANCE_ENCODER}/, {CONTROLNET}/ and {TEMPORAL}."
        )


def _read(folder: Path, variant: str | None) -> State:
    chosen = _variant_of(folder, variant)
    stem = f"{_WEIGHTS}.{chosen}" if chosen else _WEIGHTS
    for suffix in (".safetensors", ".bin"):
        if (folder / f"{stem}{suffix}").is_file():
            return read_state(folder / f"{stem}{suffix}")
    raise SourceError(f"{folder} has no {stem}.safetensors")


def _variant_of(folder: Path, variant: str | None) -> str | None:
    """`variant` where the folder has it, ``fp16`` where it has only that, else None."""
    if variant is not None and list(folder.glob(f"{_WEIGHTS}.{variant}.*")):
        return variant
    has_plain = any((folder / f"{_WEIGHTS}{suffix}").is_file() for suffix in (".safetensors", ".bin"))
    return "fp16" if not has_plain and list(folder.glob(f"{_WEIGHTS}.fp16.*")) else None
