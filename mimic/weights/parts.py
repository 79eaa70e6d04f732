"""Find and load the weights of the parts of a model folder (``vae/``, ``unet/``).

Only files with the library's usual name, or files listed by its index, are used. Any other file in the
folder, such as ``model (copy).safetensors`` or ``old.bin``, is ignored.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from mimic.weights.errors import SourceError, VariantError
from mimic.weights.sources import fetch_hint, shared_weights
from mimic.weights.strict import State, WeightsError, check_loading_info, load_strictly, read_state
from pose.text import one_line, shown

Names = tuple[str, str]
"""Usual file names of a library, for safetensors and for `torch.save`."""
DIFFUSERS: Names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
TRANSFORMERS: Names = ("model.safetensors", "pytorch_model.bin")

POSITION_IDS = "embeddings.position_ids"
"""Suffix of the key of a constant that only some versions of transformers write to CLIP checkpoints."""

_MOST_TIMES, _SPARE = 4, 1000  # weights that a network may create for each that is held, and beside them
_OTHER_VARIANTS = ("fp16", "bf16")
_LIBRARIES = frozenset({"diffusers", "transformers", "mimic"})
_LIBRARY_LOADS = {"device_map", "quantization_config"}
# Names of attention layers in VAEs saved before diffusers 0.15.
_OLD_ATTENTION = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)\.")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

Part = TypeVar("Part", bound=nn.Module)

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load one model at a time, and as tensors that can be trained, also under `torch.inference_mode`.

    While diffusers and transformers load a model, they replace functions of torch for the whole process; two
    threads that load at once would leave the replacements in place.
    """
    with _one_at_a_time, torch.inference_mode(False):
        yield


class _EmptyWeights(TorchFunctionMode):
    """Create weights on the meta device, in this thread only; buffers with values are computed."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


class _BoundedByFiles(TorchFunctionMode):
    """Raise `ValueError` where a config describes far more weights than its files hold, before they fill the
    memory; a damaged number of layers is any number."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._num_held, self._num_created = len(state), 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._num_created += func is torch.empty
        if self._num_created > _MOST_TIMES * self._num_held + _SPARE:
            raise ValueError(
                f"it describes more than {self._num_created - 1} weights, and the files hold {self._num_held}"
            )
        return func(*args, **(kwargs or {}))


def names_of(kind: type[nn.Module]) -> Names:
    """Return the usual file names of a class's library."""
    return TRANSFORMERS if issubclass(kind, PreTrainedModel) else DIFFUSERS


def find_files(
    folder: Path, names: Names = DIFFUSERS, variant: str | None = None
) -> tuple[list[Path], list[str]]:
    """Find the files that hold a part's weights, and the names of missing ones.

    Files are searched in this order: with `variant`, without variant, fp16, bf16; for each, safetensors
    first. The first complete set is used. A broken link, or an index with only some of its files, counts as
    missing files; no other precision is used instead.

    Args:
        folder: the folder of the part.
        names: usual file names of its library.
        variant: of the weight files, for example ``fp16``.

    Returns:
        (files, missing); if no set is complete, files is empty, and missing lists the shards named by an
        index, or the usual name. Parts of bundled models may have the file of another one (`shared.json`).
    """
    missing: list[str] = []
    for wanted in dict.fromkeys((variant, None, *_OTHER_VARIANTS)):
        is_begun = False
        for name in names:
            found, lost = _find(folder, name, wanted)
            if found and not lost:
                return found, []
            missing = missing or lost
            is_begun = is_begun or bool(found) or any((folder / each).is_symlink() for each in lost)
        if is_begun:
            return [], missing
    shared = shared_weights(folder)
    return ([shared], []) if shared is not None else ([], missing or [names[0]])


_MOST = 10  # files that a message lists


def require(paths: Iterable[Path], remedy: str) -> None:
    """Check that files or folders exist.

    Args:
        paths: the files or folders.
        remedy: sentence for the error message that says what to do.

    Raises:
        SourceError: some do not exist; all are named, with the command that downloads them (an `OSError`).
    """
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        hints = dict.fromkeys(fetch_hint(path.parent, [path.name]) for path in missing)
        hint = " ".join(filter(None, hints))
        raise SourceError(
            f"not found: {', '.join(one_line(path) for path in missing[:_MOST])}. {remedy} {hint}".rstrip()
        )


def require_parts(folder: Path, *, given: Mapping[str, Any]) -> None:
    """Check that a model folder has a folder for each part of its index that is not given, whatever the part
    is; diffusers would look for a missing one on the hub.

    Raises:
        SourceError: one is missing, or the index cannot be read (an `OSError`).
    """
    if (folder / "model_index.json").is_file():
        listed = read_json(folder / "model_index.json").items()
        names = [name for name, entry in listed if isinstance(entry, list) and entry != [None, None]]
        require((folder / name for name in names if name not in given), "Copy the model again.")


def read_part(
    folder: Path,
    names: Names = DIFFUSERS,
    variant: str | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> State:
    """Read all tensors of a part, one file after the other.

    Args:
        folder: the folder of the part.
        names: usual file names of its library.
        variant: of the weight files, for example ``fp16``.
        dtype: precision that floating-point tensors are cast to while each file is read, so that memory holds
            the weights in it and one file. None keeps that of the files.

    Raises:
        SourceError: a file is missing (an `OSError`).
        WeightsError: a file is damaged (a `ValueError`).
    """
    files, missing = find_files(folder, names, variant)
    if missing:
        others = sorted({path.name for path in folder.glob("*") if path.suffix in (".safetensors", ".bin")})
        notes = [f"{name} is a broken link" for name in missing if os.path.islink(folder / name)]
        notes += [f"{name} is ignored" for name in others if name not in missing][:5]
        noted = f" ({', '.join(notes)})" if notes else ""
        raise SourceError(
            f"{folder} lacks {', '.join(missing)}{noted}. "
            f"{fetch_hint(folder, missing) or 'Copy it again from where the model came from.'}"
        )
    return {key: tensor for path in files for key, tensor in read_state(path, dtype=dtype).items()}


def _check_no_negative(config: Mapping[str, Any]) -> None:
    """Raise `ValueError` for sizes and counts below 0; some of them fail in the first call only."""
    for name, value in config.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if type(each) is int and each < 0:
                raise ValueError(f"{name} is {each}; expected no number below 0")


@loading()
def load_part(kind: type[Part], folder: Path, *, dtype: torch.dtype, variant: str | None = None) -> Part:
    """Load a network of diffusers, transformers or this package from its folder, in evaluation mode.

    Args:
        kind: class of the network.
        folder: the folder with its config and weights.
        dtype: precision of the weights.
        variant: of the weight files, for example ``fp16``.

    Raises:
        SourceError: a file is missing (an `OSError`).
        WeightsError: keys are missing, unexpected or of a wrong shape (all are listed), or a file is damaged
            (a `ValueError`).
    """

    require([folder / "config.json"], "A part of a model is a folder with its config and its weights.")
    state = read_part(folder, names_of(kind), variant, dtype=dtype)
    if issubclass(kind, PreTrainedModel):
        return _load_of_transformers(kind, folder, state, dtype)
    with explained(folder / "config.json"), _EmptyWeights(), _BoundedByFiles(state):
        config: Mapping[str, Any] = kind.load_config(folder)  # type: ignore[attr-defined]
        _check_no_negative(config)
        module: Any = kind.from_config(config)  # type: ignore[attr-defined]
    module.register_to_config(_name_or_path=str(folder))
    renamed = {
        _OLD_ATTENTION.sub(lambda m: f"{m[1]}.{_NEW_ATTENTION[m[2]]}.", key): state[key] for key in state
    }
    load_strictly({"": module}, renamed, source=folder, dtype=dtype)
    return module.eval()


@loading()
def load_parts(
    folder: Path,
    *,
    dtype: torch.dtype | Mapping[str, torch.dtype],
    variant: str | None = None,
    given: Mapping[str, Any],
) -> dict[str, nn.Module]:
    """Load all networks listed by a model folder's `model_index.json`.

    Args:
        folder: the model folder.
        dtype: precision of all networks, or of each by its name with ``default`` for the others.
        variant: of the weight files; parts without it use their other files.
        given: arguments of the user's `from_pretrained`; parts among them are not loaded.

    Returns:
        the networks by name; none if `given` requests a way of loading that only the libraries support
        (quantized, distributed over devices). All are checked in any case.

    Raises:
        SourceError: a file is missing (an `OSError`).
        VariantError: no part has files of `variant` (an `OSError` and a `ValueError`).
        WeightsError: keys are missing, unexpected or of a wrong shape (all are listed), or a file is damaged
            (a `ValueError`).
    """
    require([folder / "model_index.json"], "Give a model folder in diffusers' layout.")
    index = read_json(folder / "model_index.json")
    classes = {
        name: _class_of(entry, folder / "model_index.json")
        for name, entry in index.items()
        if isinstance(entry, list) and name not in given
    }
    kinds = {name: kind for name, kind in classes.items() if kind is not None and issubclass(kind, nn.Module)}
    for name, kind in classes.items():
        if name not in kinds and hasattr(kind, "from_pretrained") and (folder / name).is_dir():
            with explained(folder / name):  # a scheduler, an image processor
                kind.from_pretrained(folder / name, local_files_only=True)  # type: ignore[union-attr]
    if variant is not None and not any(any((folder / name).glob(f"*.{variant}[.-]*")) for name in kinds):
        raise VariantError(
            f"You are trying to load the model files of the `variant={variant}`, but {folder} has no files "
            f"of the variant {variant}; leave it out to load those there."
        )
    parts: dict[str, nn.Module] = {}
    for name, kind in kinds.items():
        own = (
            dtype if isinstance(dtype, torch.dtype) else dtype.get(name, dtype.get("default", torch.float32))
        )
        parts[name] = load_part(kind, folder / name, dtype=own, variant=variant)
    return {} if _LIBRARY_LOADS & given.keys() else parts


def _class_of(entry: list[Any], index: Path) -> type | None:
    """The class that an entry of an index names as ``[library, name]``; None for a part that is left out."""
    if entry == [None, None]:
        return None
    if len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        raise SourceError(
            f"{index} has the entry {shown(entry)}; expected a library and the name of a class."
        )
    library, name = entry
    # A name in a file imports nothing; modules of families that were registered are there already.
    if library not in _LIBRARIES | set(sys.modules):
        return None
    kind = getattr(importlib.import_module(library), name, None)
    return kind if isinstance(kind, type) else None


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name the file or folder that diffusers or transformers cannot make a part of.

    Raises:
        SourceError: in place of any error of the body that is not ours (an `OSError`).
    """
    try:
        yield
    except (SourceError, WeightsError):
        raise
    except Exception as error:  # a config of wrong values raises whatever the first sum with them raises
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SourceError(
            f"{path} cannot be used: {one_line(reason)}. Copy it again from where the model came from."
        ) from error


def _load_of_transformers(kind: Any, folder: Path, state: State, dtype: torch.dtype) -> Any:
    """Load with transformers itself, which renames keys of its older versions."""
    with quiet_transformers(), explained(folder / "config.json"), _BoundedByFiles(state):
        module, info = kind.from_pretrained(
            None,
            config=kind.config_class.from_pretrained(folder),
            state_dict={key: value for key, value in state.items() if not key.endswith(POSITION_IDS)},
            torch_dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # mismatches are reported below
        )
    check_loading_info(info, source=folder)
    return module.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide log messages of transformers below the level of errors."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _find(folder: Path, name: str, variant: str | None) -> tuple[list[Path], list[str]]:
    """Return the existing files of one format and variant, and the names of missing ones."""
    stem, suffix = name.rsplit(".", 1)
    middle = f".{variant}" if variant else ""
    single, index = folder / f"{stem}{middle}.{suffix}", folder / f"{name}.index{middle}.json"
    shards = [folder / shard for shard in _shards(index)] if index.is_file() else []
    found = [shard for shard in shards if shard.is_file()]
    if single.is_file() and (not shards or found != shards):
        return [single], []
    if single.is_symlink() and not shards:
        return [], [single.name]
    return found, [shard.name for shard in shards if shard not in found]


def _shards(index: Path) -> list[str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise SourceError(
            f"{index} has no weight_map; expected the names of the files that hold the weights."
        )
    names = sorted({str(name) for name in places.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise SourceError(
            f"{index} lists {one_line(outside[0])}, which is not in its folder; the index is refused."
        )
    return names


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        SourceError: the file cannot be read, or holds something else (an `OSError`).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON ({one_line(error)}). Copy it again.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a {type(content).__name__}; expected a JSON object.")
    return content
