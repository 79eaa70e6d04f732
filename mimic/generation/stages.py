"""Measure the time and the peak memory of each stage of a job."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Stage:
    """Time and memory of one stage."""

    name: str
    seconds: float
    peak_memory_mb: float | None
    """Peak resident memory of the process during the stage, in MB; since the start of the process on systems
    that cannot reset the peak."""
    peak_gpu_memory_mb: float | None
    """Peak GPU memory allocated by torch during the stage, in MB; None without a GPU."""


class Stages:
    """Measures consecutive stages: ``with stages("decoding"): …``."""

    def __init__(self) -> None:
        self.done: list[Stage] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        _reset_peaks()
        start = time.perf_counter()
        yield
        has_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        gpu_mb = torch.cuda.max_memory_allocated() / 2**20 if has_gpu else None
        seconds = time.perf_counter() - start
        self.done.append(Stage(name, round(seconds, 3), _peak_memory_mb(), gpu_mb))
        _give_back()

    def as_dicts(self) -> list[dict[str, Any]]:
        return [asdict(stage) for stage in self.done]


def _reset_peaks() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # Linux: resets the peak of resident memory


def _give_back() -> None:
    """Return freed memory to the system: glibc would keep what a stage freed until the end of the process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL(None).malloc_trim(0)


def _peak_memory_mb() -> float | None:
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)
    return None
