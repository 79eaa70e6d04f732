"""Results that are on disk after each measurement, and what a run may use."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """Device, size and time of a run."""

    device: torch.device
    is_small: bool
    end: float
    """When to stop, by `time.monotonic`."""

    @property
    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the measurements of speed."""
        return torch.float16 if self.device.type == "cuda" else torch.float32

    def wait(self) -> None:
        """Wait until the device has computed all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds_of(self, call: Callable[[], Any], *, repeats: int = 3) -> float:
        """Median seconds of a call, after one to warm up."""
        call()
        times = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def reset_peak(self) -> None:
        """Begin measuring the peak of device memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self) -> float | None:
        """Peak of allocated device memory in GB since `reset_peak`; None without CUDA."""
        if self.device.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)


class Record:
    """A JSON file, written anew with each entry."""

    def __init__(self, path: Path, **head: Any) -> None:
        self.path = path
        self._content: dict[str, Any] = {**head, "parts": {}}

    def put(self, name: str, value: Any) -> None:
        """Add an entry and write the file."""
        self._content["parts"][name] = value
        self.write()

    def part(self, letter: str) -> Part:
        """Return the entries of one part."""
        self._content["parts"].setdefault(letter, {})
        return Part(self, self._content["parts"][letter])

    def write(self) -> None:
        """Write the file as a whole under its name."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)


class Part:
    """Entries of one part of a record."""

    def __init__(self, record: Record, entries: dict[str, Any]) -> None:
        self._record, self._entries = record, entries

    def put(self, name: str, value: Any) -> None:
        """Add an entry, print it and write the file."""
        self._entries[name] = value
        self._record.write()
        print(f"    {name}: {value}", flush=True)

    def get(self, name: str) -> Any:
        """Return an entry; None if there is none."""
        return self._entries.get(name)

    def of(self, letter: str) -> Part:
        """Return another part."""
        return self._record.part(letter)
