"""Load and write the released Animate Anyone weights: their files, their key layout, parts of the base
model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from mimic.families import stable_diffusion
from mimic.families.base import quiet_libraries
from mimic.families.stable_diffusion import VAE_FILES, motion_unet, num_positions, reference_unet
from mimic.models.image_embedding import image_processor_class
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
from mimic.weights.errors import SourceError
from mimic.weights.motion_keys import is_motion_key, to_diffusers, to_released
from mimic.weights.parts import load_part, loading, require
from mimic.weights.sources import resolve
from mimic.weights.strict import State, WeightsError, load_strictly, read_state, without_prefixes

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor

SCHEDULER = {
    **stable_diffusion.SCHEDULER,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""Arguments of `DDIMScheduler` in the released configuration."""

FILES = ("denoising_unet", "reference_unet", "pose_guider", "motion_module")
"""Names of the released files, without ``.pth`` or ``.safetensors``."""

_SUFFIXES = (".pth", ".safetensors", ".pt", ".ckpt", ".bin")
_BASE_FILES = ("*.json", "*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors", "*encoder/*.bin")
_ENCODER_FILES = ("*.json", "*.safetensors", "image_encoder/*", "feature_extractor/*")
_HOME = "the folder with denoising_unet.pth, reference_unet.pth, pose_guider.pth and motion_module.pth"
_BASE = (
    "The base is a Stable Diffusion 1.5 in diffusers' layout; where it lacks a VAE or the image encoder of "
    "sd-image-variations, name them (vae=, image_encoder=)."
)


@loading()
def load_released(
    base: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    motion_module: str | os.PathLike[str] | None,
    vae: str | os.PathLike[str] | None,
    image_encoder: str | os.PathLike[str] | None,
    dtype: torch.dtype,
    variant: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """Load the components of an `AnimateAnyonePipeline` by name; see
    `AnimateAnyonePipeline.from_original`."""

    def folder(source: str | os.PathLike[str], wanted: tuple[str, ...]) -> Path:
        return resolve(source, wanted=wanted, local_files_only=local_files_only)

    released = folder(checkpoint, tuple(f"{name}.pth" for name in FILES))
    files = _find_files(released, motion_module)
    base = folder(base, _BASE_FILES)
    of_vae = folder(base if vae is None else vae, VAE_FILES)
    of_encoder = folder(base if image_encoder is None else image_encoder, _ENCODER_FILES)
    of_vae, of_encoder = (
        whole / part if whole == base or (whole / part).is_dir() else whole
        for whole, part in ((of_vae, "vae"), (of_encoder, "image_encoder"))
    )
    require([place / "config.json" for place in (base / "unet", of_vae, of_encoder)], _BASE)
    states = {
        name: without_prefixes(read_state(path, dtype=dtype), "module.", source=path)
        for name, path in files.items()
    }
    motion = states.pop("motion_module", {})
    states["denoising_unet"] = _with_motion(states["denoising_unet"], motion, files)
    modules = build_on_meta(
        MotionUNet.load_config(base / "unet"),
        num_positions=num_positions(states["denoising_unet"], source=released),
        has_motion_in_middle=any(key.startswith("mid_block.motion") for key in states["denoising_unet"]),
        pose_guider=states["pose_guider"],
    )
    for name, state in states.items():
        part = modules["unet" if name == "denoising_unet" else name]
        load_strictly({"": part}, state, source=files[name], dtype=dtype)
    with quiet_libraries():
        return {
            **{name: module.eval() for name, module in modules.items()},
            "vae": load_part(AutoencoderKL, of_vae, dtype=dtype, variant=variant),
            "image_encoder": load_part(
                CLIPVisionModelWithProjection, of_encoder, dtype=dtype, variant=variant
            ),
            "scheduler": DDIMScheduler(**SCHEDULER),
            "feature_extractor": _extractor(base, of_encoder),
        }


def build_on_meta(
    unet: Mapping[str, Any],
    *,
    num_positions: int,
    has_motion_in_middle: bool,
    pose_guider: Mapping[str, Tensor],
) -> dict[str, nn.Module]:
    """Build the trained networks on the meta device, with shapes but without memory.

    Args:
        unet: config of Stable Diffusion's `UNet2DConditionModel`.
        num_positions: number of positions along time that the motion modules encode.
        has_motion_in_middle: whether the middle block has a motion module.
        pose_guider: released tensors of the pose guider; their names and shapes determine its class.

    Returns:
        ``unet``, ``reference_unet`` and ``pose_guider``.
    """
    with torch.device("meta"):
        return {
            "unet": motion_unet(
                unet,
                num_positions=num_positions,
                use_motion_mid_block=has_motion_in_middle,
                residual_norms="frame",
            ),
            "reference_unet": reference_unet(unet),
            "pose_guider": _guider_like(pose_guider, unet["block_out_channels"][0]),
        }


def _guider_like(state: Mapping[str, Tensor], width: int) -> nn.Module:
    if any(key.startswith("conv_layers.") for key in state):
        num = sum(key.startswith("conv_layers.") and key.endswith("weight") for key in state)
        channels = tuple(state[f"conv_layers.{i}.weight"].shape[0] for i in range(num))
        return PaperPoseGuider(width, channels=channels)
    num_blocks = sum(key.startswith("blocks.") and key.endswith("weight") for key in state)
    names = ("conv_in.weight", *(f"blocks.{i}.weight" for i in range(1, num_blocks, 2)))
    missing = [name for name in names if name not in state]
    if missing:
        return PoseGuider(width)  # loading lists the missing keys
    return PoseGuider(width, channels=tuple(state[name].shape[0] for name in names))


def released_state(modules: Mapping[str, nn.Module]) -> dict[str, State]:
    """Convert networks to the released layout; the inverse of reading it.

    Args:
        modules: ``unet``, ``reference_unet`` and ``pose_guider``.

    Returns:
        tensors by released key, for each released file.
    """
    unet = to_released(modules["unet"].state_dict())
    return {
        "denoising_unet": {key: tensor for key, tensor in unet.items() if not is_motion_key(key)},
        "motion_module": {key: tensor for key, tensor in unet.items() if is_motion_key(key)},
        "reference_unet": dict(modules["reference_unet"].state_dict()),
        "pose_guider": dict(modules["pose_guider"].state_dict()),
    }


def _with_motion(unet: State, motion: State, files: Mapping[str, Path]) -> State:
    """Merge the keys of the denoising UNet's file and of the motion modules, under diffusers' names.

    Raises:
        WeightsError: no file holds motion modules, or both files hold the same key with different values.
    """
    source = files.get("motion_module", files["denoising_unet"])
    if motion and not any(is_motion_key(key) for key in motion):
        raise WeightsError(
            f"{source} holds no motion module: none of its {len(motion)} keys contains motion_modules; give "
            "the released motion_module.pth, or AnimateDiff's."
        )
    if not any(is_motion_key(key) for key in (*unet, *motion)):
        raise WeightsError(
            f"neither {files['denoising_unet']} nor a motion_module.pth next to it holds motion modules, "
            "without which frames are unrelated; put the released motion_module.pth into the same folder."
        )
    both = [key for key in motion if key in unet and not _same(motion[key], unet[key])]
    if both:
        raise WeightsError(
            f"{files['denoising_unet']} and {source} both hold {both[0]} ({len(both)} such keys), with "
            "different values; keep one of the two."
        )
    return to_diffusers({**unet, **motion}, source=source)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _find_files(folder: Path, motion_module: str | os.PathLike[str] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in FILES:
        there = [folder / f"{name}{suffix}" for suffix in _SUFFIXES if (folder / f"{name}{suffix}").is_file()]
        if there:
            found[name] = there[0]
    if motion_module is not None:
        found["motion_module"] = Path(motion_module)
    missing = [f"{name}.pth" for name in FILES if name not in found and name != "motion_module"]
    if missing:
        raise SourceError(f"{folder} has no {', '.join(missing)}; give {_HOME}.")
    if not found.get("motion_module", folder).exists():
        raise SourceError(f"there is no motion module {found['motion_module']}")
    return found


def _extractor(base: Path, image_encoder: Path) -> CLIPImageProcessor:
    kind = image_processor_class()
    for folder in (image_encoder.parent / "feature_extractor", base / "feature_extractor"):
        if (folder / "preprocessor_config.json").is_file():
            return kind.from_pretrained(folder)
    return kind()  # only CLIP's mean and standard deviation are used, which are the defaults
