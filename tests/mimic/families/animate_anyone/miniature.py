"""The recorded miniature of Animate Anyone: as released files, as a pipeline, and its inputs and outputs."""

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
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.families.animate_anyone.keys import SCHEDULER, build_on_meta
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.models.image_embedding import image_processor_class
from mimic.weights.motion_keys import is_motion_key, to_diffusers
from mimic.weights.strict import load_strictly
from tests.tiny import quiet

GOLDENS = Path(__file__).parents[3] / "goldens" / "animate_anyone"


def recorded(name: str) -> dict[str, Tensor]:
    """The tensors of a recorded `.npz`."""
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}


def recorded_json(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def reference_image() -> PIL.Image.Image:
    return PIL.Image.open(GOLDENS / "ref_image.png").convert("RGB")


@functools.cache
def weights() -> dict[str, Tensor]:
    """All recorded weights under their recorded names, float32."""
    return {key: tensor.float() for key, tensor in load_file(GOLDENS / "weights.fp16.safetensors").items()}


def own(prefix: str) -> dict[str, Tensor]:
    """Those of one network, without its prefix."""
    return {key[len(prefix) + 1 :]: value for key, value in weights().items() if key.startswith(f"{prefix}.")}


@functools.cache
def modules() -> dict[str, nn.Module]:
    """All networks with the recorded weights. Shared: leave them as they are."""
    config = recorded_json("config")
    networks = build_on_meta(
        config["reference_unet"], num_positions=32, has_motion_in_middle=True, pose_guider=own("pose_guider")
    )
    denoising = to_diffusers(own("denoising_unet"), source="the recording")
    load_strictly({"": networks["unet"]}, denoising, source="the recording")
    for name in ("reference_unet", "pose_guider"):
        load_strictly({"": networks[name]}, own(name), source="the recording")
    networks["vae"] = AutoencoderKL.from_config(config["vae"])
    networks["image_encoder"] = CLIPVisionModelWithProjection(CLIPVisionConfig(**config["image_encoder"]))
    for name in ("vae", "image_encoder"):
        networks[name].load_state_dict(own(name))
    return {name: module.eval() for name, module in networks.items()}


def pipeline() -> AnimateAnyonePipeline:
    """A pipeline of the recorded networks, which it shares with all others."""
    return quiet(
        AnimateAnyonePipeline(
            **modules(), scheduler=DDIMScheduler(**SCHEDULER), feature_extractor=image_processor_class()()
        )
    )


def write_base(folder: Path) -> Path:
    """A Stable Diffusion folder under the miniature: a UNet without weights, VAE and image encoder."""
    (folder / "unet").mkdir(parents=True)
    config = recorded_json("config")
    (folder / "unet" / "config.json").write_text(json.dumps(config["reference_unet"]))
    modules()["vae"].save_pretrained(folder / "vae")
    modules()["image_encoder"].save_pretrained(folder / "image_encoder")
    return folder


def released_files() -> dict[str, dict[str, Tensor]]:
    """The four released files, float16 where the recording is."""
    unet = own("denoising_unet")
    return {
        "denoising_unet": {key: value for key, value in unet.items() if not is_motion_key(key)},
        "motion_module": {key: value for key, value in unet.items() if is_motion_key(key)},
        "reference_unet": own("reference_unet"),
        "pose_guider": own("pose_guider"),
    }


def write_released(folder: Path, files: dict[str, dict[str, Tensor]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in (released_files() if files is None else files).items():
        torch.save(state, folder / f"{name}.pth")
    return folder
