"""Where and in which precision to compute: names of devices and dtypes, and what this machine has."""

from __future__ import annotations

import functools

import torch

from mimic.config.loading import ConfigError
from pose.session import has_nvidia_device
from pose.text import shown

_CUDA_OF_TORCH = {"2.6": "cu126", "2.7": "cu128", "2.8": "cu128"}  # releases that have no build for CUDA 13
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def best_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@functools.cache
def chosen_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda:1`, … means on this machine.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return best_device()
    device = named_device(name)
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device is {shown(name)}, which mimic does not know; use device: auto")
    return device


def named_device(name: str | torch.device) -> torch.device:
    """The device of a name of torch's, which is there if it is one of CUDA or Apple's GPU.

    Raises:
        ConfigError: there is no such device (a `ValueError`).
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"device is {shown(name)}; expected auto, cpu, cuda, cuda:<number> or mps"
        ) from None
    is_there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there.get(device.type, True):
        raise ConfigError(f"device is {shown(name)}, and torch sees no such device here; use device: auto")
    return device


def chosen_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """A precision by its name; None and ``auto`` are float16 on CUDA, float32 elsewhere.

    Raises:
        ConfigError: the name is not known (a `ValueError`).
    """
    if dtype is None or dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ConfigError(f"dtype '{dtype}' is not known; use one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def missing_cuda() -> str | None:
    """Return a sentence if this machine has an NVIDIA GPU and the installed torch is built without CUDA."""
    if torch.version.cuda is not None or torch.version.hip is not None or not has_nvidia_device():
        return None
    version = torch.__version__.partition("+")[0]
    index = _CUDA_OF_TORCH.get(".".join(version.split(".")[:2]), "cu130")
    return (
        f"this machine has an NVIDIA GPU, but the installed torch {torch.__version__} is built without CUDA, "
        "so everything runs on the CPU; install a CUDA build: pip install --force-reinstall "
        f"torch=={version} --index-url https://download.pytorch.org/whl/{index}"
    )


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    num_threads = torch.get_num_threads()
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    return f"{device} ({threads})" if device.type == "cpu" else str(device)
