"""What a run writes down beside its video: the model, versions, hashes of weights and inputs."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mimic.devices import device_name
from mimic.files import local_path
from mimic.weights.sources import sha256, weight_files
from pose.load import estimator_files

if TYPE_CHECKING:
    from diffusers import ModelMixin

_PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "av",
    "opencv-python-headless", "onnxruntime", "onnxruntime-gpu",
)  # fmt: skip


class ModelLike(Protocol):
    """What is asked of a pipeline to describe it."""

    config: Any

    @property
    def denoiser(self) -> ModelMixin: ...

    @property
    def execution_device(self) -> torch.device: ...


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"mimic": _version("mimic-motion") or "unknown", "python": platform.python_version()}
    found |= {name: version for name in _PACKAGES if (version := _version(name)) is not None}
    found["torch"] = torch.__version__  # with its build (+cu130), which the package's metadata may lack
    return found | {"platform": platform.platform()}


def weights_of(
    model: str | os.PathLike[str] | None, checkpoint: str | os.PathLike[str] | None
) -> dict[str, str]:
    """SHA-256 of each file of weights of a local model folder and of a checkpoint, by name."""
    hashes: dict[str, str] = {}
    if model is not None and Path(model).is_dir():
        for name, path in weight_files(Path(model)).items():
            is_replaced = (
                checkpoint is not None and not Path(checkpoint).is_dir() and Path(name).parent.name == "unet"
            )
            if not is_replaced:
                hashes[name] = _hash(path, path.stat().st_mtime_ns)
    if checkpoint is not None and Path(checkpoint).is_dir():
        hashes |= weights_of(checkpoint, None)
    elif checkpoint is not None and Path(checkpoint).is_file():
        path = Path(checkpoint)
        hashes[path.name] = _hash(path, path.stat().st_mtime_ns)
    return hashes


def described_model(
    pipeline: ModelLike,
    *,
    base: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """What a pipeline is made of and where it computes.

    Args:
        base: the folder that it came from; by default the one the pipeline was loaded from.
        checkpoint: the checkpoint that was loaded over it.
        name: what the user called it.
    """
    folder = base if base is not None else getattr(pipeline.config, "_name_or_path", None)
    return {
        "name": name if name is not None else (os.fspath(folder) if folder else None),
        "pipeline": type(pipeline).__name__,
        "checkpoint": os.fspath(checkpoint) if checkpoint is not None else None,
        "weights_sha256": weights_of(folder or None, checkpoint),
        "dtype": str(pipeline.denoiser.dtype).removeprefix("torch."),
        "device": device_name(pipeline.execution_device),
    }


def file_facts(source: object) -> dict[str, Any]:
    """Name and SHA-256 of an input file; of what was given in memory, what it is."""
    if not isinstance(source, str | os.PathLike):
        return {"file": None, "type": type(source).__name__}
    return {"file": os.fspath(source), "sha256": sha256(local_path(source))}


def estimator_facts(name: str, weights: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Which pose estimator a name means here, and the SHA-256 of each of its files."""
    files = estimator_files(name, weights=None if weights is None else local_path(weights))
    return {path.name: _hash(path, path.stat().st_mtime_ns) for path in files}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.lru_cache(maxsize=256)
def _hash(path: Path, modified_ns: int) -> str:
    """Cached by path and time of change: a run with many cases reads its weights once."""
    return sha256(path)
