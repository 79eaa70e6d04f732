"""Gather the tensors of a running training for a checkpoint, and restore them, with any number of processes.

Tensors are saved whole, by the names of the parameters that they belong to, so that a checkpoint of many
processes resumes on one and vice versa.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mimic.config.loading import ConfigError
from mimic.training.engine import is_deepspeed, local, shared_out_like, whole

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


def optimiser_by_name(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return the optimiser's state as `<what>.<parameter name>`; empty for parameters without gradients."""
    found = {}
    for name, parameter in parameters.items():
        for what, value in optimiser.state.get(parameter, {}).items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            # The 8-bit optimiser shares one table of values between parameters, which safetensors refuses.
            found[f"{what}.{name}"] = tensor.clone() if what.startswith("qmap") else tensor
    return found


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Restore the state that `optimiser_by_name` returned, gathered."""
    by_parameter: dict[str, dict[str, Any]] = {}
    for key, value in tensors.items():
        what, name = key.split(".", 1)
        # Copies: tensors of mapped files are unaligned, and kernels may sum those in another order.
        own: Any = value.clone()
        if value.ndim > 0:
            own = shared_out_like(own, parameters[name])
        elif not value.is_floating_point():
            own = int(value)  # the 8-bit optimiser counts steps in Python integers
        by_parameter.setdefault(name, {})[what] = own
    numbers: dict[nn.Parameter, int] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            numbers[parameter] = len(numbers)
    state = {numbers[parameters[name]]: values for name, values in by_parameter.items()}
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


def restore_tensors(places: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Copy whole tensors into `places`, each of which may be sharded.

    Raises:
        ConfigError: names or shapes differ.
    """
    different = sorted(set(places) ^ set(tensors))
    both = set(places) & set(tensors)
    different += sorted(name for name in both if places[name].shape != tensors[name].shape)
    if different:
        more = f" and {len(different) - _LISTED} more" if len(different) > _LISTED else ""
        raise ConfigError(
            f"{source} was made with other settings of what is trained (it differs in "
            f"{', '.join(different[:_LISTED])}{more}); set trainable, lora and ema_decay as they were, or "
            "give another output_dir"
        )
    with torch.no_grad():
        for name, place in places.items():
            local(place).copy_(local(shared_out_like(tensors[name], place)))


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
