"""(a) Machine, versions, and the rates at which the device multiplies matrices and copies memory."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress

import torch

from benchmarks.gpu.record import Part, Setting

_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "accelerate", "triton")


def run(setting: Setting, part: Part) -> None:
    """Write versions and rates."""
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    part.put("versions", versions)
    if setting.device.type == "cuda":
        facts = torch.cuda.get_device_properties(setting.device)
        part.put(
            "device",
            {
                "name": facts.name,
                "memory_gb": round(facts.total_memory / 1e9, 1),
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
                "allows_tf32": torch.backends.cuda.matmul.allow_tf32,
            },
        )
    size = 512 if setting.is_small else 8192
    rates = {}
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        one, other = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
        seconds = setting.seconds_of(lambda one=one, other=other: one @ other, repeats=5)
        rates[str(dtype).removeprefix("torch.")] = float(f"{2 * size**3 / seconds / 1e12:.4g}")
    part.put("matrix rate, TFLOP/s", rates)
    source = torch.empty(2**22 if setting.is_small else 2**30, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    seconds = setting.seconds_of(lambda: target.copy_(source), repeats=5)
    part.put("copy rate, GB/s read and written", round(2 * source.nbytes / seconds / 1e9, 1))
