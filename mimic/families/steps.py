"""What a caller learns of a run and may change: a callback after each step, in diffusers' way, and progress.

Legend: B batch, F frames, f frames of a window, L tokens, D their width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from mimic.families.plan import Plan
from mimic.progress import Progress
from mimic.sampling.noise import Generators

if TYPE_CHECKING:
    from typing_extensions import Self

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]
ConditionsT = TypeVar("ConditionsT")


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
    """Callback run after each denoising step, in diffusers' way, the tensors passed to it, and progress."""

    callback: StepCallback | None = None
    tensor_inputs: tuple[str, ...] = ("latents",)
    progress: Progress | None = None
    """Called after each window with the windows done and their number in all steps; None shows the pipeline's
    own bar."""
    keeper: StepKeeper | None = None
    """Keeps finished steps, so that an interrupted run can continue."""

    @contextmanager
    def counted(
        self, own_bar: Callable[..., Any], total: int, num_done: int = 0
    ) -> Iterator[Callable[[], object]]:
        """Yield a function to call after each of `total` windows, of which `num_done` are done already."""
        if self.progress is None:
            with own_bar(total=total) as bar:
                bar.update(num_done)
                yield bar.update
            return
        show, numbers = self.progress, itertools.count(1 + num_done)
        yield lambda: show(next(numbers), total)


def step_report(
    callback: StepCallback | None, tensor_inputs: Sequence[str] | None, available: Sequence[str]
) -> StepReport:
    """The callback with the names of the tensors that it asks for; diffusers' own callbacks have a list.

    Raises:
        ValueError: a tensor is not available.
        TypeError: the callback cannot be called.
    """
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback_on_step_end is a {type(callback).__name__}; expected a function "
            "callback(pipe, step, t, tensors)."
        )
    if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        tensor_inputs = callback.tensor_inputs
    if isinstance(tensor_inputs, str):
        tensor_inputs = [tensor_inputs]
    tensor_inputs = tensor_inputs or ()
    unknown = sorted(set(tensor_inputs) - set(available))
    if unknown:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; "
            f"available are {', '.join(available)}."
        )
    return StepReport(callback, tuple(tensor_inputs))


@dataclass(frozen=True, kw_only=True)
class ImageConditions:
    """Conditions of a family whose cross-attention sees the embedding of a picture."""

    image_embeddings: Tensor
    """``B x 1 x D``"""
    unconditional_embeddings: Tensor | None = None
    """``B x 1 x D``; None: zeros"""

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the unconditional and of the conditional branch."""
        given = self.unconditional_embeddings
        return torch.zeros_like(self.image_embeddings) if given is None else given, self.image_embeddings

    def with_embeddings(self, unconditional: Tensor, conditional: Tensor) -> Self:
        """Return conditions with other embeddings."""
        return replace(self, image_embeddings=conditional, unconditional_embeddings=unconditional)


class RunState:
    """Mixin of pipelines: the state of the current or last run that callbacks read and change."""

    _interrupt = False
    _num_timesteps = 0
    _guidance_scale: float | Tensor = 1.0

    @property
    def interrupt(self) -> bool:
        """Whether the run stops after the current step; a callback requests it with `pipe._interrupt =
        True`."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Number of denoising steps of the current or last run."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float | Tensor:
        """Guidance scale of the current or last run: a number, or one for each frame (``F``) if they differ.
        A callback changes it with `pipe._guidance_scale = …`."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a scale is above 1, so that the unconditional prediction is computed as well."""
        return bool(torch.as_tensor(self._guidance_scale).max() > 1)

    def _set_guidance(self, plan: Plan[Any]) -> None:
        low, high = plan.settings.min_guidance_scale, plan.settings.max_guidance_scale
        self._guidance_scale = low if low == high else plan.guidance_scales

    def _scales(self, plan: Plan[Any], frames: list[int]) -> Tensor:
        """Return the guidance scales of a window's frames; all 1 if guidance is off."""
        if not self.do_classifier_free_guidance:
            return torch.ones(len(frames))
        scale = torch.as_tensor(self._guidance_scale, dtype=torch.float32).cpu().flatten()
        if len(scale) not in {1, plan.num_frames}:
            raise ValueError(
                f"a callback set _guidance_scale to {len(scale)} values; expected a number, or one for each "
                f"of {plan.num_frames} frames."
            )
        return scale.expand(plan.num_frames)[frames]


class AfterStep(Generic[ConditionsT]):
    """Runs the callback after each step of a run and holds the conditions, which it may change.

    Args:
        pipe: passed to the callback.
        report: the callback and the names of its tensors.
        conditions: of the run; with ``prompt_embeds`` among the tensors, they have `embeddings` and
            `with_embeddings`.
        state: ``scheduler`` and ``generator``, kept with the latents of a step.
        keep_every: numbers of finished steps after which a run can be continued: multiples of this, and all.
    """

    def __init__(
        self,
        pipe: RunState,
        report: StepReport,
        conditions: ConditionsT,
        state: dict[str, Any],
        *,
        keep_every: int = 1,
    ) -> None:
        self.conditions: Any = conditions
        self._keep_every = keep_every
        self._pipe, self._report, self._state = pipe, report, state

    def __call__(self, i: int, t: Tensor, latents: Tensor) -> Tensor:
        """Return the latents from which sampling continues."""
        latents = self._called_back(i, t, latents)
        num_done = i + 1
        can_continue = num_done % self._keep_every == 0 or num_done == self._pipe.num_timesteps
        if self._report.keeper is not None and can_continue and not self._pipe.interrupt:
            self._report.keeper.keep(latents, num_done=num_done, **self._state)
        return latents

    def _called_back(self, i: int, t: Tensor, latents: Tensor) -> Tensor:
        if self._report.callback is None:
            return latents
        given = {name: self._tensor(name, latents) for name in self._report.tensor_inputs}
        returned = self._report.callback(self._pipe, i, t, dict(given))
        if returned is None:
            return latents
        if not isinstance(returned, Mapping):
            raise TypeError(
                f"a callback returned a {type(returned).__name__}; expected a dictionary of the tensors that "
                "it changes, as {'latents': latents}, or None."
            )
        for name in ("latents", "prompt_embeds"):
            value = returned.get(name)
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"a callback returned {name} as {type(value).__name__}; expected a tensor.")
        embeds = returned.get("prompt_embeds")
        if embeds is not None and embeds is not given.get("prompt_embeds"):
            own = self.conditions.embeddings()
            self.conditions = self.conditions.with_embeddings(*embeddings_of(embeds, *own))
        changed = returned.get("latents")
        if changed is None:
            return latents
        if changed.shape != latents.shape:
            raise ValueError(
                f"a callback returned latents {list(changed.shape)}; expected {list(latents.shape)}, as it "
                "got them."
            )
        return changed.to(latents)

    def _tensor(self, name: str, latents: Tensor) -> Tensor:
        if name == "latents":
            return latents
        unconditional, conditional = self.conditions.embeddings()
        if not self._pipe.do_classifier_free_guidance:
            return conditional
        return torch.cat([unconditional, conditional])


def embeddings_of(embeds: Tensor, unconditional: Tensor, conditional: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``prompt_embeds`` that a callback returned into its unconditional and conditional half.

    Args:
        embeds: both halves (``2B x L x D``), or the conditional half alone. diffusers' cutoff callbacks
            return its last row for any number of videos; that row unchanged leaves all rows unchanged.
        unconditional, conditional: the current halves, ``B x L x D``.

    Raises:
        ValueError: another shape.
    """
    rows = len(conditional)
    if embeds.shape == conditional.shape:
        return unconditional, embeds.to(conditional)
    if embeds.shape[1:] == conditional.shape[1:] and len(embeds) == 2 * rows:
        halves = embeds.to(conditional).chunk(2)
        return halves[0], halves[1]
    if torch.equal(embeds.to(conditional), conditional[-1:]):
        return unconditional, conditional
    raise ValueError(
        f"a callback returned prompt_embeds {list(embeds.shape)}; expected {list(conditional.shape)}, or "
        "twice as many rows with the unconditional ones first."
    )
