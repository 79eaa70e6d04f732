"""Weights go into modules completely or not at all: safe reading of checkpoint files and key-by-key
accounting."""

from __future__ import annotations

import logging
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mimic.weights.sources import fetch_hint

State = dict[str, Tensor]

_LISTED = 20
_log = logging.getLogger("mimic")


@dataclass
class Mismatch:
    """What keeps a state dict from fitting."""

    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    """``key: found […], expected […]``"""

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus or self.misshapen)

    def __str__(self) -> str:
        parts = []
        for name, keys in (
            ("missing", self.missing),
            ("surplus", self.surplus),
            ("wrong shape", self.misshapen),
        ):
            if keys:
                more = f"\n    … and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
                parts.append(f"  {name} ({len(keys)}):\n    " + "\n    ".join(keys[:_LISTED]) + more)
        return "\n".join(parts)


class WeightsError(ValueError):
    """A checkpoint cannot be read or does not fit the model; the message lists what is wrong."""

    def __init__(self, message: str, mismatch: Mismatch | None = None) -> None:
        super().__init__(message if mismatch is None else f"{message}\n{mismatch}")
        self.mismatch = mismatch


def read_state(path: str | Path) -> State:
    """The tensors of a `.safetensors` or `torch.save` file, on the CPU, mapped from the file where its format
    allows.

    Nothing is unpickled but tensors (``weights_only``). A dict that holds the tensors under ``state_dict`` is
    opened.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is damaged, holds other things than tensors, or tensors that are not finite.
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
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path} holds entries that are no tensors: {', '.join(others[:_LISTED])}.")
    broken = [key for key, tensor in content.items() if not _is_finite(tensor)]
    if broken:
        more = f" and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        raise WeightsError(
            f"{path} holds NaN or infinite values in {', '.join(broken[:_LISTED])}{more}. "
            f"Take an earlier checkpoint, or the published file anew. {_again(path)}"
        )
    return content


def without_prefixes(state: Mapping[str, Tensor], *prefixes: str, source: object) -> State:
    """A state without the prefixes that a training framework put before its keys (``module.``); said in the
    log.

    Raises:
        WeightsError: two keys are the same without them.
    """
    pattern = re.compile(f"^(?:{'|'.join(map(re.escape, prefixes))})+")
    renamed = {key: pattern.sub("", key) for key in state}
    changed = [key for key, name in renamed.items() if name != key]
    if len(set(renamed.values())) < len(state):
        twice = next(key for key in changed if list(renamed.values()).count(renamed[key]) > 1)
        raise WeightsError(f"{source} holds {renamed[twice]} twice, once as {twice}; keep one of the two.")
    if changed:
        _log.info(
            "%s: removed %s from %d of %d keys", source, " and ".join(prefixes), len(changed), len(state)
        )
    return {renamed[key]: tensor for key, tensor in state.items()}


def _is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; both show in its extremes."""
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.element_size() == 1:
        return True
    return all(math.isfinite(extreme) for extreme in torch.aminmax(tensor))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); {path.stat().st_size} bytes are here. "
            f"{_again(path)}"
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
            return torch.load(path, **arguments)  # the format before zip files cannot be mapped
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds Python objects other than tensors, or is no checkpoint at all. "
            "Such files can run code when loaded; convert it to safetensors where you trust it."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a whole checkpoint that torch can read; {path.stat().st_size} bytes are here. "
            f"{_again(path)}"
        ) from error


def compare(
    expected: Mapping[str, Iterable[int]], found: Mapping[str, Iterable[int]], optional: Iterable[str] = ()
) -> Mismatch:
    """Account for every key: `expected` and `found` map keys to shapes; `optional` keys may be there or
    not."""
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
    """Put a checkpoint's tensors into modules; each key has its place and each place its key, or nothing is
    changed.

    The tensors themselves become the parameters (cast where `dtype` differs), so modules built on the meta
    device cost no memory of their own.

    Args:
        modules: key prefix (``unet.``) to the module whose keys follow it.
        state: the whole checkpoint.
        source: where it came from, for the message.
        optional: keys, prefix included, that may be there without having a place.
        dtype: of the loaded floating-point tensors; None keeps the checkpoint's.

    Raises:
        WeightsError: listing every missing, surplus and misshapen key.
    """
    places = {
        prefix + key: tensor.shape
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    mismatch = compare(places, {key: tensor.shape for key, tensor in state.items()}, optional)
    if mismatch:
        raise WeightsError(f"the weights of {source} do not fit the model.", mismatch)
    for prefix, module in modules.items():
        own = {key: state[prefix + key] for key in module.state_dict() if prefix + key in state}
        module.load_state_dict({key: _cast(tensor, dtype) for key, tensor in own.items()}, assign=True)


def check_loading_info(info: Mapping[str, Any], *, source: str | Path, optional: Iterable[str] = ()) -> None:
    """Make the report of a library's own `from_pretrained(output_loading_info=True)` binding.

    Raises:
        WeightsError: a key was missing, surplus or misshapen, which the library itself only logs.
    """
    optional = set(optional)
    mismatch = Mismatch(
        missing=sorted(set(info.get("missing_keys", ())) - optional),
        surplus=sorted(set(info.get("unexpected_keys", ())) - optional),
        misshapen=sorted(
            f"{key}: found {list(found)}, expected {list(expected)}"
            for key, found, expected in info.get("mismatched_keys", ())
        ),
    )
    if mismatch:
        raise WeightsError(f"the weights in {source} do not fit their config.", mismatch)


def align_memory(module: nn.Module) -> None:
    """Copy those parameters and buffers of a CPU module whose memory does not start at a multiple of 64
    bytes."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
