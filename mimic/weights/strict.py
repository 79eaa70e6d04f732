"""Strict loading of weights: read checkpoint files safely, and account for every key."""

from __future__ import annotations

import logging
import math
import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mimic.weights.sources import fetch_hint
from pose.text import one_line

State = dict[str, Tensor]
DAMAGED_SAFETENSORS = (
    *(SafetensorError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError),
)
"""What safetensors and torch raise for a damaged file, and for kinds and shapes that torch does not have."""
DAMAGED_TORCH = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OSError),
    *(ArithmeticError, MemoryError, struct.error),
)
"""What torch raises for a damaged file of its own."""

_LISTED = 20
_log = logging.getLogger("mimic")


@dataclass
class Mismatch:
    """Differences between a state dict and the modules to load it into."""

    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    """``key: found […], expected […]``"""
    mistyped: list[str] = field(default_factory=list)
    """``key: found …, expected …``"""

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus or self.misshapen or self.mistyped)

    def __str__(self) -> str:
        parts = []
        for name, keys in (
            ("missing", self.missing),
            ("surplus", self.surplus),
            ("wrong shape", self.misshapen),
            ("wrong kind of number", self.mistyped),
        ):
            if keys:
                more = f"\n    … and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
                listed = "\n    ".join(one_line(key) for key in keys[:_LISTED])
                parts.append(f"  {name} ({len(keys)}):\n    {listed}{more}")
        return "\n".join(parts)


class WeightsError(ValueError):
    """A checkpoint cannot be read or does not fit the model; the message lists all problems."""

    def __init__(self, message: str, mismatch: Mismatch | None = None) -> None:
        super().__init__(message if mismatch is None else f"{message}\n{mismatch}")
        self.mismatch = mismatch


def read_state(path: str | Path, *, dtype: torch.dtype | None = None) -> State:
    """Read the tensors of a `.safetensors` or `torch.save` file to the CPU, memory-mapped if possible.

    Only tensors are unpickled (``weights_only``). If the file holds a dict with the key ``state_dict``, its
    tensors are returned.

    Args:
        path: the file.
        dtype: precision that floating-point tensors are cast to. The file's memory is then released when this
            function returns. None keeps the file's precision.

    Raises:
        FileNotFoundError: the file does not exist.
        WeightsError: the file is damaged, or holds objects other than tensors, or non-finite values, or
            values that `dtype` cannot hold (a `ValueError`).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {path} does not exist; give the path of a .pth or .safetensors file."
        )
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise WeightsError(
                f"{path} is a Git LFS pointer, not the weights; fetch the file itself (git lfs pull)."
            )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in ("state_dict", "module"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}; expected a dict from key to tensor.")
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path} holds entries that are no tensors: {_some(others)}.")
    nameless = [key for key in content if not isinstance(key, str)]
    if nameless:
        raise WeightsError(
            f"{path} holds tensors whose keys are no names: {_some(nameless)}; expected names such as "
            " unet.conv_in.weight."
        )
    unusable = [
        key
        for key, tensor in content.items()
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta
    ]
    if unusable:
        raise WeightsError(
            f"{path} holds sparse or quantised tensors, or tensors without values: "
            f"{_some(unusable)}. Save them dense, in floating point."
        )
    broken = [key for key, tensor in content.items() if not is_finite(tensor)]
    if broken:
        raise WeightsError(
            f"{path} holds NaN or infinite values in {_some(broken)}. "
            f"Use an earlier checkpoint, or replace the file by the published one. {_again(path)}"
        )
    _check_range(content, dtype, path)
    return {key: _cast(tensor, dtype) for key, tensor in content.items()}


def without_prefixes(state: Mapping[str, Tensor], *prefixes: str, source: object) -> State:
    """Remove prefixes that a training framework added to keys (``module.``), and log the removal.

    Args:
        state: tensors by key.
        prefixes: the prefixes.
        source: named in messages.

    Raises:
        WeightsError: two keys are equal without prefixes (a `ValueError`).
    """
    pattern = re.compile(f"^(?:{'|'.join(map(re.escape, prefixes))})+")
    renamed = {key: pattern.sub("", key) for key in state}
    changed = [key for key, name in renamed.items() if name != key]
    if len(set(renamed.values())) < len(state):
        twice = next(key for key in changed if list(renamed.values()).count(renamed[key]) > 1)
        raise WeightsError(
            f"{source} holds {one_line(renamed[twice])} twice, once as {one_line(twice)}; keep one of the "
            "two."
        )
    if changed:
        _log.info(
            "%s: removed %s from %d of %d keys", source, " and ".join(prefixes), len(changed), len(state)
        )
    return {renamed[key]: tensor for key, tensor in state.items()}


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity; both show in its minimum or maximum."""
    if tensor.is_complex():
        return is_finite(torch.view_as_real(tensor.resolve_conj()))
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    # Of numbers of 8 bits, torch computes no extremes.
    extremes = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
    return all(math.isfinite(extreme) for extreme in extremes)


def _check_range(state: Mapping[str, Tensor], dtype: torch.dtype | None, source: str | Path) -> None:
    """Raise `WeightsError` if values would become infinite in another precision; their keys are named."""
    too_large = [key for key, tensor in state.items() if not _fits(tensor, dtype)]
    if too_large:
        raise WeightsError(
            f"{source} holds values beyond what {str(dtype).removeprefix('torch.')} can hold in "
            f"{_some(too_large)}. Use bfloat16 or float32."
        )


def _fits(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    """Return whether finite values stay so in another precision; only half precision has a shorter range."""
    if dtype != torch.float16 or not tensor.is_floating_point() or tensor.element_size() <= 1:
        return True
    if tensor.dtype == torch.float16 or tensor.numel() == 0 or tensor.is_meta:
        return True
    return max(abs(float(extreme)) for extreme in torch.aminmax(tensor)) <= torch.finfo(dtype).max


def _some(keys: list[Any]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"{', '.join(one_line(key, 100) for key in keys[:_LISTED])}{more}"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except DAMAGED_SAFETENSORS as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({one_line(error)}); it has {path.stat().st_size} "
            f"bytes. {_again(path)}"
        ) from error


def _again(path: Path) -> str:
    return fetch_hint(path.parent, [path.name], is_damaged=True) or "Download it again."


def _read_torch(path: Path) -> Any:
    arguments: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            return torch.load(path, mmap=True, **arguments)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, **arguments)  # files in the old format without zip cannot be mapped
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds Python objects other than tensors, or is no checkpoint at all. "
            "Such files can run code when loaded; if you trust it, convert it to safetensors."
        ) from error
    except DAMAGED_TORCH as error:
        raise WeightsError(
            f"{path} is not a whole checkpoint that torch can read; it has {path.stat().st_size} bytes. "
            f"{_again(path)}"
        ) from error


def compare(
    expected: Mapping[str, Iterable[int]], found: Mapping[str, Iterable[int]], optional: Iterable[str] = ()
) -> Mismatch:
    """Compare keys and shapes.

    Args:
        expected, found: shapes by key.
        optional: keys that may be missing or unexpected.
    """
    optional = set(optional)
    mismatch = Mismatch()
    for key, shape in expected.items():
        if key not in found:
            if key not in optional:
                mismatch.missing.append(key)
        elif list(shape) != list(found[key]):
            mismatch.misshapen.append(f"{key}: found {list(found[key])}, expected {list(shape)}")
    mismatch.surplus = [key for key in found if key not in expected and key not in optional]
    return mismatch


def load_strictly(
    modules: Mapping[str, nn.Module],
    state: Mapping[str, Tensor],
    *,
    source: str | Path,
    optional: Iterable[str] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Load a checkpoint into modules; if keys or shapes differ, nothing is changed.

    The tensors themselves become the parameters (cast if `dtype` differs), so modules on the meta device need
    no additional memory.

    Args:
        modules: modules by the prefix of their keys (``unet.``).
        state: the whole checkpoint.
        source: its origin, for messages.
        optional: keys, including the prefix, that may be present without belonging to a module.
        dtype: precision of floating-point tensors; None keeps the checkpoint's.

    Raises:
        WeightsError: keys are missing, unexpected, of a wrong shape or no floating-point numbers; all are
            listed (a `ValueError`). Or values do not fit into `dtype`; their keys are named.
    """
    places = {
        prefix + key: tensor
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    mismatch = compare(
        {key: tensor.shape for key, tensor in places.items()},
        {key: tensor.shape for key, tensor in state.items()},
        optional,
    )
    mismatch.mistyped = [
        f"{key}: found {_name(state[key])}, expected {_name(place)}"
        for key, place in places.items()
        if key in state and state[key].is_floating_point() != place.is_floating_point()
    ]
    if mismatch:
        raise WeightsError(f"the weights of {source} do not fit the model.", mismatch)
    _check_range({key: state[key] for key in places if key in state}, dtype, source)
    for prefix, module in modules.items():
        own = {key: state[prefix + key] for key in module.state_dict() if prefix + key in state}
        module.load_state_dict({key: _cast(tensor, dtype) for key, tensor in own.items()}, assign=True)


def check_loading_info(info: Mapping[str, Any], *, source: str | Path, optional: Iterable[str] = ()) -> None:
    """Check the report of a library's `from_pretrained(output_loading_info=True)`.

    Args:
        info: the report.
        source: named in messages.
        optional: keys that may be missing or unexpected.

    Raises:
        WeightsError: keys were missing, unexpected or of a wrong shape, which the library only logs (a
            `ValueError`).
    """
    optional = set(optional)
    mismatch = Mismatch(
        missing=sorted(set(info.get("missing_keys", ())) - optional),
        surplus=sorted(set(info.get("unexpected_keys", ())) - optional),
        misshapen=sorted(
            # transformers 4 gives keys alone.
            f"{entry}: of another shape"
            if isinstance(entry, str)
            else f"{entry[0]}: found {list(entry[1])}, expected {list(entry[2])}"
            for entry in info.get("mismatched_keys", ())
        ),
    )
    if mismatch:
        raise WeightsError(f"the weights in {source} do not fit their config.", mismatch)


def align_memory(module: nn.Module) -> None:
    """Copy parameters and buffers on the CPU whose memory does not start at a multiple of 64 bytes."""
    with torch.inference_mode(False):  # a call under inference mode must not make the weights untrainable
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device.type == "cpu" and tensor.data_ptr() % 64:
                tensor.data = tensor.data.clone()


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
