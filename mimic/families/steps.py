"""What a caller learns of a run: a callback after each denoising step, in diffusers' way, and progress."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from mimic.progress import Progress

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


@dataclass(frozen=True)
class StepReport:
    """Callback run after each denoising step, in diffusers' way, the tensors passed to it, and progress."""

    callback: StepCallback | None = None
    tensor_inputs: tuple[str, ...] = ("latents",)
    progress: Progress | None = None
    """Called after each window with the windows done and their number in all steps; None shows the pipeline's
    own bar."""

    @contextmanager
    def counted(self, own_bar: Callable[..., Any], total: int) -> Iterator[Callable[[], object]]:
        """Yield a function to call after each of `total` windows."""
        if self.progress is None:
            with own_bar(total=total) as bar:
                yield bar.update
            return
        show, numbers = self.progress, itertools.count(1)
        yield lambda: show(next(numbers), total)


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
