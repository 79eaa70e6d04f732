"""The released Animate Anyone weights: which files they are, where their keys go, what the base adds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from mimic.families.base import quiet_libraries
from mimic.models.image_embedding import image_processor_class
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
from mimic.models.reference_unet import ReferenceUNet
from mimic.weights.motion_keys import is_motion_key, to_diffusers, to_released
from mimic.weights.sources import SourceError, snapshot
from mimic.weights.strict import State, WeightsError, check_loading_info, load_strictly, read_state

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""Of `DDIMScheduler`: the released configuration."""

FILES = ("denoising_unet", "reference_unet", "pose_guider", "motion_module")
"""Names of the released files, without ``.pth`` or ``.safetensors``."""
POSITION_IDS = "vision_model.embeddings.position_ids"
"""A constant that CLIP checkpoints hold or not, depending on the version of transformers that wrote them."""

_SUFFIXES = (".pth", ".safetensors", ".pt", ".ckpt", ".bin")
_BASE_FILES = ("*.json", "*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors", "*encoder/*.bin")
_UNET_KEYS = (
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "sample_size",
)
_PREFIX = re.compile(r"^(module\.)+")
_WEIGHT_STEMS = {"vae": "diffusion_pytorch_model", "image_encoder": "model"}
_HOME = "the folder with denoising_unet.pth, reference_unet.pth, pose_guider.pth and motion_module.pth"


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
    """The components of an `AnimateAnyonePipeline` (see `AnimateAnyonePipeline.from_original`)."""
    released = _folder(checkpoint, tuple(f"{name}.pth" for name in FILES), local_files_only)
    files = _find_files(released, motion_module)
    base = _folder(base, _BASE_FILES, local_files_only)
    vae_folder = _part(base, vae, "vae", local_files_only)
    encoder_folder = _part(base, image_encoder, "image_encoder", local_files_only)
    _check_folders(base, vae_folder, encoder_folder)
    states = {name: _read(path) for name, path in files.items()}
    motion = states.pop("motion_module", {})
    states["denoising_unet"] = _with_motion(states["denoising_unet"], motion, files)
    modules = build_on_meta(
        MotionUNet.load_config(base / "unet"),
        num_positions=num_positions(states["denoising_unet"], source=released),
        has_motion_in_middle=any(key.startswith("mid_block.motion") for key in states["denoising_unet"]),
        pose_guider=states["pose_guider"],
    )
    for name, part in (("denoising_unet", "unet"), ("reference_unet", "reference_unet"),
                       ("pose_guider", "pose_guider")):  # fmt: skip
        load_strictly({"": modules[part]}, states[name], source=files[name], dtype=dtype)
    with quiet_libraries():
        decoder = _load_part(AutoencoderKL, vae_folder, "vae", dtype, variant)
        encoder = _load_part(CLIPVisionModelWithProjection, encoder_folder, "image_encoder", dtype, variant)
        extractor = _extractor(base, encoder_folder)
    return {
        **{name: module.eval() for name, module in modules.items()},
        "vae": decoder,
        "image_encoder": encoder,
        "scheduler": DDIMScheduler(**SCHEDULER),
        "feature_extractor": extractor,
    }


def build_on_meta(
    unet: Mapping[str, Any],
    *,
    num_positions: int,
    has_motion_in_middle: bool,
    pose_guider: Mapping[str, Tensor],
) -> dict[str, nn.Module]:
    """The trained networks of a base's UNet config, with shapes but without memory.

    Args:
        unet: a config of Stable Diffusion's `UNet2DConditionModel`.
        num_positions: along time.
        has_motion_in_middle: whether the middle block has a motion module.
        pose_guider: its released tensors, whose names and shapes tell which guider it is.
    """
    common = {key: unet[key] for key in _UNET_KEYS if key in unet}
    common["block_out_channels"] = tuple(common["block_out_channels"])
    # SD 1.5 calls the number of heads by this name.
    common["num_attention_heads"] = unet.get("num_attention_heads") or unet["attention_head_dim"]
    down, up = tuple(unet["down_block_types"]), tuple(unet["up_block_types"])
    with torch.device("meta"):
        return {
            "unet": MotionUNet(
                **common,
                down_block_types=tuple(kind.replace("2D", "Motion") for kind in down),
                up_block_types=tuple(kind.replace("2D", "Motion") for kind in up),
                motion_max_seq_length=num_positions,
                use_motion_mid_block=has_motion_in_middle,
                residual_norms="frame",
            ),
            "reference_unet": ReferenceUNet(**common, down_block_types=down, up_block_types=up),
            "pose_guider": _guider_like(pose_guider, common["block_out_channels"][0]),
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
        return PoseGuider(width)  # what is missing is told when it is loaded
    return PoseGuider(width, channels=tuple(state[name].shape[0] for name in names))


def num_positions(denoising_unet: Mapping[str, Tensor], *, source: object) -> int:
    """How many positions along time the tables of the motion modules have, of diffusers' keys.

    Raises:
        WeightsError: there is no table, or they differ.
    """
    lengths = {tensor.shape[1] for key, tensor in denoising_unet.items() if key.endswith("pos_embed.pe")}
    if len(lengths) != 1:
        raise WeightsError(
            f"{source} has tables of positions of the lengths {sorted(lengths)}; expected one length."
        )
    return lengths.pop()


def released_state(modules: Mapping[str, nn.Module]) -> dict[str, State]:
    """File to its tensors, as they are released; the inverse of reading them.

    Args:
        modules: ``unet``, ``reference_unet`` and ``pose_guider``.
    """
    unet = to_released(modules["unet"].state_dict())
    return {
        "denoising_unet": {key: tensor for key, tensor in unet.items() if not is_motion_key(key)},
        "motion_module": {key: tensor for key, tensor in unet.items() if is_motion_key(key)},
        "reference_unet": dict(modules["reference_unet"].state_dict()),
        "pose_guider": dict(modules["pose_guider"].state_dict()),
    }


def _with_motion(unet: State, motion: State, files: Mapping[str, Path]) -> State:
    """All of the denoising UNet under diffusers' names: its own file's keys, and the motion modules'.

    Raises:
        WeightsError: there are no motion modules, others are in that file, or both files have them and they
            differ.
    """
    source = files.get("motion_module", files["denoising_unet"])
    if motion and not any(is_motion_key(key) for key in motion):
        raise WeightsError(
            f"{source} holds no motion module: none of its {len(motion)} keys has motion_modules in it; give "
            "the released motion_module.pth, or AnimateDiff's."
        )
    if not any(is_motion_key(key) for key in (*unet, *motion)):
        raise WeightsError(
            f"neither {files['denoising_unet']} nor a motion_module.pth beside it holds motion modules, "
            "without which frames are unrelated; put the released motion_module.pth beside it."
        )
    both = [key for key in motion if key in unet and not _same(motion[key], unet[key])]
    if both:
        raise WeightsError(
            f"{files['denoising_unet']} and {source} both hold {both[0]} ({len(both)} such keys), with other "
            "values; keep one of the two."
        )
    return to_diffusers({**unet, **motion}, source=source)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _read(path: Path) -> State:
    return {_PREFIX.sub("", key): tensor for key, tensor in read_state(path).items()}


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


def _folder(source: str | os.PathLike[str], files: tuple[str, ...], local_files_only: bool) -> Path:
    """A folder that is here, or those files of a repository of the hub."""
    if os.path.isdir(source):
        return Path(source)
    text = os.fspath(source).removeprefix("hf:")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise SourceError(f"there is no folder {source}; give {_HOME}, or a model in diffusers' layout.")
    return snapshot(text, wanted=files, local_files_only=local_files_only)


def _part(base: Path, given: str | os.PathLike[str] | None, name: str, local_files_only: bool) -> Path:
    if given is None:
        return base / name
    files = ("*.json", "*.safetensors", f"{name}/*", "feature_extractor/*")
    folder = _folder(given, files, local_files_only)
    return folder / name if (folder / name).is_dir() else folder


def _check_folders(base: Path, vae: Path, image_encoder: Path) -> None:
    wanted = (base / "unet" / "config.json", vae / "config.json", image_encoder / "config.json")
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing:
        raise SourceError(
            f"not found: {', '.join(missing)}. The base is a Stable Diffusion 1.5 in diffusers' layout; "
            "where it lacks a VAE or the image encoder of sd-image-variations, name them (vae=, "
            "image_encoder=)."
        )


def _load_part(kind: Any, folder: Path, part: str, dtype: torch.dtype, variant: str | None) -> nn.Module:
    stem = _WEIGHT_STEMS[part]
    chosen = variant if variant is not None and list(folder.glob(f"{stem}.{variant}*")) else None
    has_plain = any((*folder.glob(f"{stem}.safetensors*"), *folder.glob(f"{stem}-*"), *folder.glob("*.bin")))
    if chosen is None and not has_plain and list(folder.glob(f"{stem}.fp16*")):
        chosen = "fp16"
    if not has_plain and chosen is None:
        raise SourceError(f"{folder} has no {stem}.safetensors; its weights are not there.")
    module, info = kind.from_pretrained(folder, torch_dtype=dtype, variant=chosen, output_loading_info=True)
    check_loading_info(info, source=folder, optional=[POSITION_IDS])
    return module.eval()


def _extractor(base: Path, image_encoder: Path) -> Any:
    kind = image_processor_class()
    for folder in (image_encoder.parent / "feature_extractor", base / "feature_extractor"):
        if (folder / "preprocessor_config.json").is_file():
            return kind.from_pretrained(folder)
    return kind()  # CLIP's own mean and standard deviation, which is all that is used
