"""How a pipeline computes a denoising step of a window: branches of guidance, faster ways, reused features.

Legend: f frames of a window, C latent channels; h, w of latents.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Generic

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from mimic.families.frames import FramePipeline
from mimic.families.plan import Plan, SettingsT
from mimic.families.steps import AfterStep, ConditionsT, RunState
from mimic.models.deep_features import DeepFeatures, FeatureReuse
from mimic.models.speed import check_compiler, exact_speed
from mimic.sampling import guidance
from mimic.sampling.denoise import Predict
from mimic.sampling.schedules import noise_levels

Branches = tuple[bool, ...]
"""Branches of guidance to predict in one call: True is the conditional one, False the unconditional one."""


@dataclass(frozen=True)
class Window:
    """One window of one video at one denoising step."""

    video: int
    """Index of the video in the batch."""
    frames: list[int]
    """Frame indices."""
    latents: Tensor
    """Its scaled noisy latents ``1 x f x C x h x w``, in the precision of the denoiser."""
    t: Tensor
    """The timestep."""


class StepPipeline(RunState, FramePipeline, Generic[SettingsT, ConditionsT]):
    """A pipeline that predicts windows at each denoising step."""

    has_single_token: ClassVar[bool] = False
    """Whether the networks' cross-attention always looks at a single token."""
    deep_feature_budget_mb: float = 4096
    """Device memory in MB for the features that steps reuse with a `reuse_interval` above 1."""

    _step = 0
    _reuse: FeatureReuse | None = None

    @abstractmethod
    def predict_window(
        self,
        conditions: ConditionsT,
        plan: Plan[SettingsT],
        window: Window,
        branches: Branches,
    ) -> Tensor:
        """Predict the given branches of guidance of one window, in one call of the network.

        Videos are predicted one at a time, so that each has the result and peak memory of a separate run.

        Args:
            conditions: result of `encode`.
            plan: of the run.
            window: what to predict.
            branches: in the order of the result.

        Returns:
            float32, ``len(branches) x f x C x h x w``.
        """

    def takes_both_branches(self, conditions: ConditionsT) -> bool:
        """Whether both branches fit into one call of `predict_window`."""
        return True

    def networks_of_a_step(self) -> tuple[nn.Module, ...]:
        """Return the networks that run at every step, for `exact_speed`."""
        return (self.denoiser,)

    @property
    def denoiser(self) -> ModelMixin:
        """The network run at every step; its dtype is the precision of the latents."""
        return self.unet

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """Scale skip connections (s) and features (b) of the UNet's last stages: FreeU (arXiv 2309.11497).

        Raises:
            NotImplementedError: the UNet has no FreeU.
        """
        if not hasattr(self.denoiser, "enable_freeu"):
            raise NotImplementedError(
                f"the network of {type(self).__name__}, a {type(self.denoiser).__name__}, has no FreeU."
            )
        self.denoiser.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)

    def disable_freeu(self) -> None:
        """Undo `enable_freeu`."""
        if hasattr(self.denoiser, "disable_freeu"):
            self.denoiser.disable_freeu()

    def begin_steps(self, plan: Plan[SettingsT], step: int = 0) -> None:
        """Prepare the steps of a run.

        Args:
            plan: the plan of the run.
            step: index of the first step to compute. With a `reuse_interval` above 1, a resumed run equals an
                undisturbed one if it is a multiple of that.
        """
        self._step, interval = step, plan.settings.reuse_interval or 1
        budget_bytes = int(self.deep_feature_budget_mb * 2**20)
        self._reuse = FeatureReuse(interval, budget_bytes) if interval > 1 else None

    def at_speed(self, plan: Plan[SettingsT]) -> AbstractContextManager[None]:
        """Return a context in which the networks of a step compute as the plan wants it."""
        if not plan.is_optimized:
            return nullcontext()
        if plan.settings.compile:
            check_compiler(self.execution_device)
        return exact_speed(
            *self.networks_of_a_step(),
            single_token=self.has_single_token,
            is_compiled=plan.settings.compile,
        )

    def guided_prediction(self, plan: Plan[SettingsT], run: AfterStep[ConditionsT]) -> Predict:
        """Return a function that predicts windows with classifier-free guidance."""
        interval = plan.settings.guidance_interval
        levels = None if interval is None else noise_levels(self.scheduler)
        is_batched = plan.batches_guidance(self.latent_shape(plan.height, plan.width), self.execution_device)
        step_of: list[Tensor] = []
        first = self._step
        device = self.execution_device
        scales_of: dict[tuple[int, ...], tuple[Tensor, bool]] = {}
        chosen: list[object] = []

        def scales(frames: list[int]) -> tuple[Tensor, bool]:
            """Scales on the device and whether any differs from 1; a callback may change them."""
            if not chosen or chosen[0] is not self._guidance_scale:
                chosen[:] = [self._guidance_scale]
                own = [self._scales(plan, window) for window in plan.windows]
                on_device = torch.cat(own).to(device).split([len(each) for each in own])  # one transfer
                scales_of.update(
                    (tuple(window), (there, guidance.is_needed(here)))
                    for window, here, there in zip(plan.windows, own, on_device)
                )
            return scales_of[tuple(frames)]

        def predict(latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            if not step_of or step_of[-1] is not t:  # the same tensor for all windows of a step
                step_of.append(t)
                self._step = first + len(step_of) - 1
            g, is_guided = scales(frames)
            if interval is not None and levels is not None:
                is_guided = is_guided and interval[0] <= levels[self._step] <= interval[1]
            predictions = []
            for video, own in enumerate(latents.to(self.denoiser.dtype).split(1)):
                window = Window(video, frames, own, t)
                if is_guided and is_batched and self.takes_both_branches(run.conditions):
                    both = self.predict_window(run.conditions, plan, window, (False, True))
                    predictions.append(guidance.guide(both[:1], both[1:], g))
                    continue
                predicted = self.predict_window(run.conditions, plan, window, (True,))
                if is_guided:
                    without = self.predict_window(run.conditions, plan, window, (False,))
                    predicted = guidance.guide(without, predicted, g)
                predictions.append(predicted)
            return torch.cat(predictions)

        return predict

    def deep_features(self, window: Window, branches: Branches) -> DeepFeatures | None:
        """Return what a family passes to its network as `deep_features`; None unless steps reuse them."""
        if self._reuse is None:
            return None
        return self._reuse(self._step, (window.video, *window.frames, branches))
