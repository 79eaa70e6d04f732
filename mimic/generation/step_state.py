"""The state of sampling after a denoising step: latents, the scheduler's memory, random generators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Generators = torch.Generator | list[torch.Generator] | None


class UnknownStateError(TypeError):
    """A scheduler holds an object that cannot be saved."""


@dataclass(frozen=True)
class StepState:
    """State of sampling after a denoising step, sufficient to continue with the next one."""

    num_done: int
    num_steps: int
    latents: Tensor
    """``B x F x C x h x w``, float32."""
    generators: list[Tensor]
    """State of each random generator, uint8."""
    scheduler: Mapping[str, Any]
    """Attributes of the scheduler that have changed since its timesteps were set."""

    @classmethod
    def after_step(
        cls,
        latents: Tensor,
        num_done: int,
        num_steps: int,
        scheduler: Any,
        generator: Generators,
        *,
        before: Mapping[str, Any],
    ) -> StepState:
        """Note the state without copying tensors.

        Args:
            latents: after the step.
            num_done: number of finished steps.
            num_steps: number of all steps.
            scheduler: a diffusers scheduler.
            generator: what the run draws from.
            before: the scheduler's attributes when its timesteps had been set.
        """
        changed = {
            name: _copied(value)
            for name, value in vars(scheduler).items()
            if isinstance(value, list | dict) or name not in before or value is not before[name]
        }
        changed.pop("_internal_dict", None)  # the config
        return cls(num_done, num_steps, latents, [own.get_state() for own in _listed(generator)], changed)

    def restore(self, scheduler: Any, generator: Generators, device: torch.device) -> None:
        """Put scheduler and generators into this state, or leave them as they are if that fails.

        Args:
            scheduler: one whose timesteps have been set.
            generator: as many as were saved.
            device: of the latents.

        Raises:
            RuntimeError, TypeError, ValueError: this is no state of theirs.
        """
        generators = _listed(generator)
        before = [own.get_state() for own in generators]
        moved = {name: _moved(value, device) for name, value in self.scheduler.items()}
        try:
            for own, state in zip(generators, self.generators, strict=True):
                own.set_state(state)
        except (RuntimeError, TypeError, ValueError):
            for own, state in zip(generators, before):
                own.set_state(state)
            raise
        for name, value in moved.items():
            setattr(scheduler, name, value)

    def as_tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return tensors on the CPU and texts from which `from_tensors` makes the state again.

        Raises:
            UnknownStateError: the scheduler holds something that cannot be saved.
        """
        tensors = {"latents": _on_cpu(self.latents)}
        for number, state in enumerate(self.generators):
            tensors[f"generator.{number}"] = _on_cpu(state)
        packed = {name: _pack(value, name, tensors) for name, value in self.scheduler.items()}
        numbers = {"num_done": str(self.num_done), "num_steps": str(self.num_steps)}
        return tensors, {**numbers, "scheduler": json.dumps(packed)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> StepState:
        """Make the state again from what `as_tensors` returned.

        Raises:
            LookupError, TypeError, ValueError: it is not what `as_tensors` returns.
        """
        names = sorted((name for name in tensors if name.startswith("generator.")), key=lambda n: int(n[10:]))
        packed = json.loads(about["scheduler"])
        num_done, num_steps = int(about["num_done"]), int(about["num_steps"])
        if min(num_done, num_steps) < 1 or not torch.isfinite(tensors["latents"]).all():
            raise ValueError(f"step {num_done} of {num_steps}, or latents that are not finite")
        return cls(
            num_done=num_done,
            num_steps=num_steps,
            latents=tensors["latents"],
            generators=[tensors[name] for name in names],
            scheduler={name: _unpack(value, tensors) for name, value in packed.items()},
        )


@dataclass(frozen=True)
class _OnDevice:
    """A tensor that was on the device of the latents."""

    tensor: Tensor


def _listed(generator: Generators) -> list[torch.Generator]:
    if generator is None:
        return []
    return generator if isinstance(generator, list) else [generator]


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _copied(value: Any) -> Any:
    """Copy containers, which schedulers change in place, but not their tensors."""
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value) if type(value) in (list, tuple) else value
    return {key: _copied(item) for key, item in value.items()} if type(value) is dict else value


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Describe a value as JSON, its tensors and arrays by their names in `tensors`."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return {"value": value}
    key = f"scheduler.{name}"
    if isinstance(value, Tensor):
        tensors[key] = _on_cpu(value)
        return {"tensor": key, "on_device": value.device.type != "cpu"}
    if isinstance(value, np.ndarray | np.generic):
        tensors[key] = torch.from_numpy(np.array(value))
        return {"array": key, "is_scalar": isinstance(value, np.generic)}
    if type(value) in (list, tuple):
        items = [_pack(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(isinstance(item, str) for item in value):
        return {"dict": {own: _pack(item, f"{name}.{own}", tensors) for own, item in value.items()}}
    raise UnknownStateError(f"the scheduler's {name} is a {type(value).__name__}, which cannot be saved")


def _unpack(packed: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    kind, content = next(iter(packed.items()))
    if kind == "tensor":
        return _OnDevice(tensors[content]) if packed["on_device"] else tensors[content]
    if kind == "array":
        array = tensors[content].numpy()
        return array[()] if packed["is_scalar"] else array
    if kind in ("list", "tuple"):
        items = (_unpack(item, tensors) for item in content)
        return list(items) if kind == "list" else tuple(items)
    return {name: _unpack(item, tensors) for name, item in content.items()} if kind == "dict" else content


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, _OnDevice):
        return value.tensor.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return {key: _moved(item, device) for key, item in value.items()} if isinstance(value, dict) else value
