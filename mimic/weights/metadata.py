"""Facts about weights in their own files: what safetensors calls metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mimic.weights.strict import DAMAGED_SAFETENSORS, WeightsError
from pose.text import one_line

_LENGTH_BYTES = 8


def save_weights(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a safetensors file whose metadata is `facts`; the same content gives the same bytes.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt", **facts})
    _sort_metadata(path)


def read_facts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty without any.

    Raises:
        FileNotFoundError: the file does not exist.
        WeightsError: it is damaged (a `ValueError`).
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except DAMAGED_SAFETENSORS as error:
        raise WeightsError(f"{path} is damaged ({one_line(error)}).") from error


def _sort_metadata(path: Path) -> None:
    """Order the facts in a file's header by name: safetensors writes them in an order drawn at random."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(size))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size
        file.seek(_LENGTH_BYTES)
        file.write(text.ljust(size))
