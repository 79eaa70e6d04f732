"""What happens after each denoising step: the caller's callback, as diffusers' pipelines take it; saving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from mimic.sampling.noise import Generators

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


class StepKeeper(Protocol):
    """Keeps the state after finished denoising steps, so that an interrupted run can continue."""

    def resume(
        self, latents: Tensor, *, num_steps: int, scheduler: Any, generator: Generators
    ) -> tuple[int, Tensor]:
        """Restore the state after the last kept step.

        Args:
            latents: initial latents, ``B x F x C x h x w``.
            num_steps: number of all steps.
            scheduler: a scheduler whose timesteps have been set; restored in place.
            generator: what the run draws from; restored in place.

        Returns:
            the number of finished steps and the latents after them; (0, `latents`) if nothing is kept.
        """

    def keep(self, latents: Tensor, *, num_done: int, scheduler: Any, generator: Generators) -> None:
        """Keep the state after `num_done` steps; called after each step."""


@dataclass(frozen=True)
class StepReport:
    """What is run after each denoising step."""

    callback: StepCallback | None = None
    """The caller's callback, in diffusers' way."""
    tensor_inputs: tuple[str, ...] = ("latents",)
    """Tensors passed to it."""
    keeper: StepKeeper | None = None


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
