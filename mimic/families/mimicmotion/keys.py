"""The released MimicMotion checkpoint: which keys it has, where they go, and what the base model adds.

A checkpoint is one flat dict with ``unet.*`` and ``pose_net.*``. A dump of the whole model, with ``vae.*``
and ``image_encoder.*`` besides, is taken as well; those then replace the base's.
The base may also be a whole MimicMotion folder: its UNet's and PoseNet's configs are what counts then, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from torch import nn
from transformers import CLIPVisionModelWithProjection

from mimic.families.base import quiet_libraries
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.weights.sources import SVD, SourceError, resolve, resolve_checkpoint
from mimic.weights.strict import check_loading_info, load_strictly, read_state

POSITION_IDS = "vision_model.embeddings.position_ids"
"""A constant that CLIP checkpoints hold or not, depending on the version of transformers that wrote them."""

_BASE_PARTS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}
_WEIGHT_NAMES = {"vae": "diffusion_pytorch_model", "image_encoder": "model"}


def load_released(
    base: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    dtype: torch.dtype,
    variant: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """The components of a `MimicMotionPipeline` (see `MimicMotionPipeline.from_original`)."""
    checkpoint = resolve_checkpoint(checkpoint, local_files_only=local_files_only)
    base = resolve(base, checkpoint=checkpoint, variant=variant, local_files_only=local_files_only)
    _check_base(base)
    state = read_state(checkpoint)
    of_pose_net = base / "pose_net"
    unet, pose_net = build_on_meta(
        PoseConditionedSVDUNet.load_config(base, subfolder="unet"),
        PoseNet.load_config(of_pose_net) if (of_pose_net / "config.json").is_file() else None,
    )
    rest = {key: state.pop(key) for key in list(state) if key.startswith(("vae.", "image_encoder."))}
    load_strictly({"unet.": unet, "pose_net.": pose_net}, state, source=checkpoint, dtype=dtype)
    with quiet_libraries():
        parts = {
            "unet": unet.eval(),
            "pose_net": pose_net.eval(),
            "vae": _load_part(_vae_class(base), base, "vae", dtype, variant),
            "image_encoder": _load_part(CLIPVisionModelWithProjection, base, "image_encoder", dtype, variant),
            "scheduler": EulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler"),
            "feature_extractor": image_processor_class().from_pretrained(base, subfolder="feature_extractor"),
        }
    whole = {f"{name}.": parts[name] for name in _WEIGHT_NAMES if any(key.startswith(name) for key in rest)}
    load_strictly(whole, rest, source=checkpoint, optional=[f"image_encoder.{POSITION_IDS}"], dtype=dtype)
    return parts


def build_on_meta(
    unet_config: dict[str, Any], pose_net_config: dict[str, Any] | None = None
) -> tuple[PoseConditionedSVDUNet, PoseNet]:
    """UNet and PoseNet with shapes but without memory.

    Args:
        unet_config: the base model's.
        pose_net_config: where the base is a MimicMotion folder; None is the released PoseNet.
    """
    with torch.device("meta"):
        unet = PoseConditionedSVDUNet.from_config(unet_config)
        if pose_net_config is not None:
            return unet, PoseNet.from_config(pose_net_config)
        return unet, PoseNet(noise_latent_channels=unet.config.block_out_channels[0])


def _vae_class(base: Path) -> Any:
    """A miniature's VAE has another number of norm groups."""
    name = AutoencoderKLTemporalDecoder.load_config(base / "vae").get("_class_name")
    return MiniTemporalVAE if name == MiniTemporalVAE.__name__ else AutoencoderKLTemporalDecoder


def _check_base(base: Path) -> None:
    absent = [f"{part}/{file}" for part, file in _BASE_PARTS.items() if not (base / part / file).is_file()]
    for part, stem in _WEIGHT_NAMES.items():
        if not list((base / part).glob(f"{stem}*.safetensors")) and not list((base / part).glob("*.bin")):
            absent.append(f"{part}/{stem}.safetensors")
    if absent:
        raise SourceError(
            f"{base} is no complete Stable Video Diffusion folder: {', '.join(absent)} not found. Give the "
            f"folder of {SVD} in diffusers' layout."
        )


def _load_part(kind: Any, base: Path, part: str, dtype: torch.dtype, variant: str | None) -> nn.Module:
    module, info = kind.from_pretrained(
        base / part, torch_dtype=dtype, variant=_variant_of(base / part, variant), output_loading_info=True
    )
    check_loading_info(info, source=base / part, optional=[POSITION_IDS])
    return module.eval()


def _variant_of(folder: Path, variant: str | None) -> str | None:
    """`variant` where the folder has it, ``fp16`` where it has only that, else None."""
    stem = _WEIGHT_NAMES[folder.name]
    if variant is not None and list(folder.glob(f"{stem}.{variant}*")):
        return variant
    has_plain = any((*folder.glob(f"{stem}.safetensors*"), *folder.glob(f"{stem}-*"), *folder.glob("*.bin")))
    return "fp16" if not has_plain and list(folder.glob(f"{stem}.fp16*")) else None
