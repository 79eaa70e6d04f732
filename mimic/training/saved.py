"""Which tensors of a running training does each process save, and where do they go when it resumes?

Tensors are saved by the names of the parameters that they belong to, so that a checkpoint of many processes
resumes on one and vice versa.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from mimic.config.loading import ConfigError
from mimic.training.engine import is_deepspeed, is_sharded, whole
from mimic.training.stored import StoredTensors

_LISTED = 5
WEIGHTS, AVERAGE, OPTIMISER = "weights", "average", "optimiser"


def gather(tensors: Mapping[str, Tensor], *, is_kept: bool = True) -> dict[str, Tensor]:
    """Return whole tensors on the CPU; all processes have to call this, those without `is_kept` get none."""
    gathered = {}
    for name, tensor in tensors.items():
        put_together = whole(tensor)
        if is_kept:
            gathered[name] = put_together.cpu()
    return gathered


def own_share(
    groups: Mapping[str, Mapping[str, Tensor]],
    parameters: Mapping[str, Tensor],
    *,
    rank: int,
    num_ranks: int,
) -> dict[str, dict[str, Tensor]]:
    """Return what one of several processes writes: sharded tensors, and its share of those that all hold.

    All that belongs to a parameter (weight, average, moments) is written by the same process.
    """
    loads, owners = [0] * num_ranks, dict[str, int]()
    for name, parameter in sorted(parameters.items(), key=lambda item: -item[1].numel()):
        owners[name] = min(range(num_ranks), key=loads.__getitem__)
        loads[owners[name]] += parameter.numel()
    return {
        group: {
            key: tensor
            for key, tensor in tensors.items()
            if is_sharded(tensor) or owners[parameter_of(group, key)] == rank
        }
        for group, tensors in groups.items()
    }


def parameter_of(group: str, key: str) -> str:
    """Return the name of the parameter that a saved tensor belongs to."""
    return key.partition(".")[2] if group == OPTIMISER else key


def optimiser_by_name(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return the optimiser's state as `<what>.<parameter name>`; empty for parameters without gradients."""
    return {
        f"{what}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in parameters.items()
        for what, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    stored: StoredTensors,
    *,
    processes: Any = None,
) -> None:
    """Restore the state that `optimiser_by_name` returned.

    Raises:
        StateError: it cannot be read.
    """
    places = {
        key: _place(known, parameters[parameter_of(OPTIMISER, key)])
        for key, known in stored.groups[OPTIMISER].items()
    }
    if places:
        stored.load(OPTIMISER, places, processes=processes)
    by_parameter: dict[str, dict[str, Any]] = {}
    for key, value in places.items():
        what, name = key.split(".", 1)
        # The 8-bit optimiser counts steps in Python integers.
        is_count = value.ndim == 0 and not value.is_floating_point()
        by_parameter.setdefault(name, {})[what] = int(value) if is_count else value
    numbers: dict[nn.Parameter, int] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            numbers[parameter] = len(numbers)
    state = {numbers[parameters[name]]: values for name, values in by_parameter.items()}
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


def _place(known: TensorStorageMetadata, parameter: nn.Parameter) -> Tensor:
    """Make a tensor for a part of the optimiser's state: sharded as the parameter is, if of its shape."""
    dtype = known.properties.dtype
    if known.size == parameter.shape and parameter.ndim > 0:
        return torch.empty_like(parameter.detach(), dtype=dtype)
    return torch.empty(known.size, dtype=dtype, device=parameter.device if known.size else "cpu")


def restore_tensors(
    places: Mapping[str, Tensor], stored: StoredTensors, group: str, *, processes: Any = None
) -> None:
    """Copy a group of tensors into `places`, each of which may be sharded.

    Raises:
        ConfigError: names or shapes differ.
        StateError: they cannot be read.
    """
    known = stored.groups.get(group, {})
    different = sorted(set(places) ^ set(known))
    different += sorted(name for name in set(places) & set(known) if places[name].shape != known[name].size)
    if different:
        more = f" and {len(different) - _LISTED} more" if len(different) > _LISTED else ""
        raise ConfigError(
            f"{stored.checkpoint} was made with other settings of what is trained (it differs in "
            f"{', '.join(different[:_LISTED])}{more}); set trainable, lora and ema_decay as they were, or "
            "give another output_dir"
        )
    if places:
        stored.load(group, places, processes=processes)


def save_engine(accelerator: Any, folder: Path, step: int) -> Path | None:
    """Save DeepSpeed's part of the state, which only it can write; return the folder, None without it."""
    if not is_deepspeed(accelerator):
        return None
    beside = folder / f".engine-{step}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(beside, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(beside))
    accelerator.wait_for_everyone()
    return beside


def restore_engine(accelerator: Any, checkpoint: Path) -> None:
    """Restore what `save_engine` wrote.

    Raises:
        ConfigError: the checkpoint was made without DeepSpeed.
    """
    if not (checkpoint / "engine").is_dir():
        raise ConfigError(
            f"{checkpoint} was made without DeepSpeed, which resumes only its own; launch as before, or give "
            "another output_dir"
        )
    accelerator.load_state(str(checkpoint / "engine"))
