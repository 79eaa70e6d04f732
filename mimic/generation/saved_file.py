"""Files of an unfinished result: tensors and texts with a hash of both, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mimic.files import whole_file
from mimic.generation.step_state import StepState
from mimic.weights.strict import DAMAGED_SAFETENSORS
from pose.text import one_line, shown

log = logging.getLogger("mimic")

DAMAGED = "%s is damaged and is not used (%s)"
Saved = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors and texts of a file."""

_DIGEST = "digest"
"""Key of the SHA-256 of what a file holds."""
_MOST_DIGITS = 10


def write_saved(path: Path, tensors: dict[str, Tensor], about: Mapping[str, str], identity: str) -> bool:
    """Write a file of the state; say so and return False if that fails, since the run can go on without."""
    try:
        texts = {**about, "identity": identity}
        content = save(tensors, metadata={**texts, _DIGEST: _digest(tensors, texts)})
        with whole_file(path) as beside:
            beside.write_bytes(content)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        log.warning("%s cannot be saved (%s); an interruption would lose the work since then", path, reason)
        return False
    return True


def read_saved(path: Path, identity: str) -> Saved | None:
    """Read a file of the state and its metadata; None if it is missing, damaged or of another identity."""
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = load(content)
        if not isinstance(about, dict):
            raise ValueError(f"its metadata are {shown(about)}")
        digest = about.pop(_DIGEST, None)
    except FileNotFoundError:
        return None
    except (OSError, *DAMAGED_SAFETENSORS) as error:
        log.warning(DAMAGED, path, one_line(error))
        return None
    if about.get("identity") != identity:
        return None
    if digest != _digest(tensors, about):
        log.warning(DAMAGED, path, "it is not as it was written")
        return None
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """SHA-256 of tensors and texts of a file."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_frames(path: Path, identity: str) -> tuple[Tensor, int] | None:
    """Read decoded frames and the number of chunks that they were; None as in `read_saved`."""
    found = read_saved(path, identity)
    if found is None:
        return None
    frames, num_chunks = found[0].get("frames"), found[1].get("num_chunks", "")
    is_sound = frames is not None and frames.dtype == torch.uint8 and frames.ndim == 4 and len(frames) > 0
    is_number = num_chunks.isdecimal() and len(num_chunks) < _MOST_DIGITS
    if frames is None or not is_sound or not is_number or int(num_chunks) < 1:
        log.warning(DAMAGED, path, "it holds no frames of ours")
        return None
    return frames, int(num_chunks)


def state_of(path: Path, found: Saved) -> StepState | None:
    """Make the state of a file again; None if the file does not hold one."""
    try:
        return StepState.from_tensors(*found)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        log.warning(DAMAGED, path, one_line(error))
        return None
