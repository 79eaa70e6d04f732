"""What do the files of a checkpoint hold, and how does each process read the parts that it needs?

Whoever reads gets the parts that it holds itself, whatever number of processes wrote them (see
`mimic.training.shards`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from mimic.training.shards import OFFSETS, ignore_single_process, reasons
from mimic.training.state import HASHES, StateError, damage
from mimic.weights.sources import sha256
from mimic.weights.strict import DAMAGED_SAFETENSORS, is_finite
from pose.text import one_line

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
"""End of the name of a file that one of several processes wrote."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class StoredTensors:
    """What the files of a checkpoint hold; nothing but their headers has been read."""

    checkpoint: Path
    groups: dict[str, dict[str, TensorStorageMetadata]]
    """What is known of each tensor, by group and name."""
    files: dict[MetadataIndex, str]
    """In which file each part is, by the tensor's name ``<group>.<name>`` and the part's offset."""

    def load(self, group: str, places: Mapping[str, Tensor], *, processes: Any = None) -> None:
        """Copy tensors of a group into `places`, by name; of sharded ones, the part that this process holds.

        Args:
            group: `weights`, for example.
            places: as large as what is stored.
            processes: a process group, all of whose processes call this with the same names.

        Raises:
            StateError: a file cannot be read.
        """
        named = {f"{group}.{name}": place.detach() for name, place in places.items()}
        known = {f"{group}.{name}": self.groups[group][name] for name in places}
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        ignore_single_process()
        try:
            load(
                named,
                storage_reader=_CheckpointReader(self.checkpoint, Metadata(dict(known), None, self.files)),
                planner=planner,
                process_group=processes,
            )
        except CheckpointException as error:
            raise damage(self.checkpoint, f"{group} cannot be read ({reasons(error)})") from error

    def without(self, is_left_out: Callable[[str], bool]) -> StoredTensors:
        """Return the same without the tensors of some names."""
        return replace(
            self,
            groups={
                group: {name: known for name, known in own.items() if not is_left_out(name)}
                for group, own in self.groups.items()
            },
        )


def stored_tensors(checkpoint: Path, facts: Mapping[str, Any]) -> StoredTensors:
    """Find what the files of a checkpoint hold.

    Args:
        checkpoint: the folder.
        facts: of it, as `load_facts` returns them.

    Raises:
        StateError: a file, or a part of a tensor, is missing, cannot be read, is not as it was written, or
            has values that are not finite.
    """
    groups: dict[str, dict[str, TensorStorageMetadata]] = {}
    places: dict[MetadataIndex, str] = {}
    there = sorted(path.name for path in checkpoint.glob("*.safetensors"))
    # Earlier formats name no files: one for each group.
    for file in facts.get("files", there):
        if file not in there:
            raise damage(checkpoint, f"{one_line(file)} is missing")
        if HASHES in facts and facts[HASHES].get(file) != _hash(checkpoint, file):
            raise damage(checkpoint, f"{file} is not as it was written")
        group = _SHARD.sub("", file.removesuffix(".safetensors"))
        own = groups.setdefault(group, {})
        try:
            with safe_open(checkpoint / file, "pt") as opened:
                parts = json.loads((opened.metadata() or {}).get(OFFSETS, "{}"))
                for name in opened.keys():  # noqa: SIM118, it is no dictionary
                    part = opened.get_slice(name)
                    sizes = torch.Size(part.get_shape())
                    whole = torch.Size(parts[name]["shape"]) if name in parts else sizes
                    offset = torch.Size(parts[name]["offset"] if name in parts else [0] * len(sizes))
                    properties = TensorProperties(dtype=_DTYPES[part.get_dtype()])
                    known = own.setdefault(name, TensorStorageMetadata(properties, whole, []))
                    known.chunks.append(ChunkStorageMetadata(offset, sizes))
                    places[MetadataIndex(f"{group}.{name}", offset)] = file
                    if not is_finite(opened.get_tensor(name)):
                        raise damage(checkpoint, f"{one_line(name)} in {file} has NaN or infinite values")
        except StateError:
            raise
        except (OSError, *DAMAGED_SAFETENSORS) as error:
            raise damage(checkpoint, f"{file} cannot be read ({one_line(error)})") from error
    for group in facts.get("groups", []):
        if group not in groups:
            raise damage(checkpoint, f"{one_line(group)}.safetensors is missing")
    for group, tensors in groups.items():
        for name, known in tensors.items():
            if sum(math.prod(chunk.sizes) for chunk in known.chunks) != math.prod(known.size):
                raise damage(checkpoint, f"parts of {one_line(name)} in {group} are missing")
    return StoredTensors(checkpoint, groups, places)


def _hash(checkpoint: Path, file: str) -> str:
    """SHA-256 of a file of a checkpoint.

    Raises:
        StateError: it cannot be read.
    """
    try:
        return sha256(checkpoint / file)
    except OSError as error:
        raise damage(checkpoint, f"{file} cannot be read ({one_line(error)})") from error


class _CheckpointReader(StorageReader):
    """Reads the parts of tensors that `torch.distributed.checkpoint.load` asks for."""

    def __init__(self, checkpoint: Path, metadata: Metadata) -> None:
        super().__init__()
        self._checkpoint, self._metadata = checkpoint, metadata

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Do nothing: a reader reads one checkpoint."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what is known of the tensors."""
        return self._metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Leave a process's plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Leave all plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy what the plan asks for into its places."""
        by_file: dict[str, list[Any]] = {}
        for item in plan.items:
            by_file.setdefault(self._metadata.storage_data[item.storage_index], []).append(item)
        for file, items in by_file.items():
            with safe_open(self._checkpoint / file, "pt") as opened:
                for item in items:
                    name = item.storage_index.fqn.split(".", 1)[1]
                    wanted = tuple(
                        slice(begin, begin + length)
                        for begin, length in zip(item.storage_offsets, item.lengths)
                    )
                    value = opened.get_slice(name)[wanted] if wanted else opened.get_tensor(name)
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(value)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return False: the folder is given when a reader is made."""
        return False
