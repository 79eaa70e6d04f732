"""What a run writes down beside its video: settings, versions, hashes of the weights."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import os
import platform
from pathlib import Path
from typing import Any

import torch

from mimic.config import CaseSettings
from mimic.files import local_path
from mimic.weights.sources import sha256, weight_files

_PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "av",
    "opencv-python-headless", "onnxruntime", "onnxruntime-gpu",
)  # fmt: skip

_PIPELINE_SETTINGS = (
    "tile_size", "tile_overlap", "num_inference_steps", "noise_aug_strength", "min_guidance_scale",
    "max_guidance_scale", "conditioning_fps", "motion_bucket_id", "decode_chunk_size", "fusion", "noise",
)  # fmt: skip
_SOME_FAMILIES_SETTINGS = ("windows", "control_scale")


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"mimic": _version("mimic-motion") or "unknown", "python": platform.python_version()}
    found |= {name: version for name in _PACKAGES if (version := _version(name)) is not None}
    return found | {"platform": platform.platform()}


def weights_of(
    model: str | os.PathLike[str] | None, checkpoint: str | os.PathLike[str] | None
) -> dict[str, str]:
    """SHA-256 of each file of weights of a local model folder and of a checkpoint, by name."""
    hashes: dict[str, str] = {}
    if model is not None and Path(model).is_dir():
        for path in weight_files(Path(model)):
            is_replaced = (
                checkpoint is not None and not Path(checkpoint).is_dir() and path.parent.name == "unet"
            )
            if not is_replaced:
                hashes[path.relative_to(model).as_posix()] = _hash(path, path.stat().st_mtime_ns)
    if checkpoint is not None and Path(checkpoint).is_dir():
        hashes |= weights_of(checkpoint, None)
    elif checkpoint is not None and Path(checkpoint).is_file():
        path = Path(checkpoint)
        hashes[path.name] = _hash(path, path.stat().st_mtime_ns)
    return hashes


def described_model(
    pipeline: Any,
    *,
    base: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """What a pipeline is made of and where it computes.

    Args:
        base: the folder that it came from; found out where the pipeline knows.
        checkpoint: the checkpoint that was loaded over it.
        name: what the user called it.
    """
    folder = base if base is not None else getattr(pipeline.config, "_name_or_path", None)
    return {
        "name": name if name is not None else (os.fspath(folder) if folder else None),
        "pipeline": type(pipeline).__name__,
        "checkpoint": os.fspath(checkpoint) if checkpoint is not None else None,
        "weights_sha256": weights_of(folder or None, checkpoint),
        "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
        "device": device_name(pipeline._execution_device),
    }


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def file_facts(source: Any) -> dict[str, Any]:
    """Name and SHA-256 of an input file; of what was given in memory, what it is."""
    if not isinstance(source, str | os.PathLike):
        return {"file": None, "type": type(source).__name__}
    return {"file": os.fspath(source), "sha256": sha256(local_path(source))}


def effective_settings(pipeline: Any, settings: CaseSettings) -> dict[str, Any]:
    """Settings with those that were left out filled in as the pipeline fills them in."""
    filled = settings.model_dump()
    filled["min_guidance_scale"], filled["max_guidance_scale"] = settings.guidance_range
    known = inspect.signature(type(pipeline).__call__).parameters
    for name in (*_PIPELINE_SETTINGS, *(name for name in _SOME_FAMILIES_SETTINGS if name in known)):
        argument = "fps" if name == "conditioning_fps" else name
        filled[name] = pipeline.setting(argument, filled[name])
    return filled


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.lru_cache(maxsize=256)
def _hash(path: Path, modified_ns: int) -> str:
    """Cached by path and time of change: a run with many cases reads its weights once."""
    return sha256(path)
