"""The caller's callback after each denoising step, as diffusers' pipelines take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


@dataclass(frozen=True)
class StepReport:
    """Callback run after each denoising step, in diffusers' way, and the tensors passed to it."""

    callback: StepCallback | None = None
    tensor_inputs: tuple[str, ...] = ("latents",)


def step_report(
    callback: StepCallback | None, tensor_inputs: Sequence[str], available: Sequence[str]
) -> StepReport:
    """The callback with the names of the tensors that it asks for; diffusers' own callbacks have a list.

    Raises:
        ValueError: a tensor is not available.
    """
    if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        tensor_inputs = callback.tensor_inputs
    unknown = sorted(set(tensor_inputs) - set(available))
    if unknown:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; "
            f"available are {', '.join(available)}."
        )
    return StepReport(callback, tuple(tensor_inputs))
