"""Base class of all animation pipelines: the order of stages, the call, defaults stored with the weights.

A family defines its conditions and what its networks predict; windows, guidance, noise, the denoising loop
and decoding are here.

Legend: B batch, F frames, f frames of a window, C latent channels, H height, W width; h, w of latents.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from mimic.data.pose_maps import PoseMaps
from mimic.data.transforms import Pictures
from mimic.devices import named_device
from mimic.distributed import Ranks
from mimic.families import checks
from mimic.families.frames import OUTPUT_TYPES, Frames
from mimic.families.inputs import Inputs, read_inputs
from mimic.families.plan import Plan, SettingsT, resolve, with_settings, with_step_count
from mimic.families.schedulers import (
    TimestepType,
    check_same_noise,
    check_scheduler,
    set_timesteps,
    used_by_one_run,
)
from mimic.families.step_pipeline import ConditionsT, StepPipeline
from mimic.families.steps import AfterStep, StepCallback, StepReport, step_report
from mimic.families.stored import quiet_libraries
from mimic.sampling import guidance
from mimic.sampling.denoise import denoise
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.noise import Generators, draw_noise, frames_to_draw, repeat_along_time
from mimic.sampling.schedules import aligned_sigmas, has_noise_levels
from mimic.sampling.windows import lay_windows

__all__ = [
    "AnimationOutput",
    "AnimationPipeline",
    "Frames",
    "StepCallback",
    "quiet_libraries",
]


@dataclass
class AnimationOutput(BaseOutput):
    """Output of a pipeline: one or several videos. Frame 0 shows the reference if `shows_reference_first`."""

    frames: Frames
    """``pil``: a list of frames for each video; ``np``: ``B x F x H x W x 3`` in [0, 1]; ``pt``: the same as
    ``B x F x 3 x H x W``; ``latent``: ``B x F x C x h x w``, as `decode_stream` takes them."""


class AnimationPipeline(StepPipeline[SettingsT, ConditionsT]):
    """Base of all pipelines; runs check → encode → prepare → denoise → decode.

    A family defines `Settings` (the shared settings plus its own), `released`, `check_parts`, `encode` and
    `predict_window`; further hooks have defaults. Its `__call__` is the one here, with its settings as
    explicit keyword arguments. `generation_defaults` are the settings recommended for these weights; they are
    stored in `mimic.json` of the model folder and apply to every setting that a call omits.
    """

    _callback_tensor_inputs = ["latents"]  # noqa: RUF012 - diffusers' name and type

    Settings: ClassVar[type[Any]]
    """The settings of the call, a subclass of `SamplingSettings`."""
    layouts: ClassVar[tuple[str, ...]]
    """Window layouts that this family supports (see `mimic.sampling.windows`)."""
    driven_by: ClassVar[str] = "skeleton"
    """Driver (`mimic.generation.drivers`) that draws `image_pose`: ``skeleton`` or ``densepose``."""
    shows_reference_first: ClassVar[bool] = True
    """Whether frame 0 of a video, and of `image_pose`, shows the reference; if false, all frames are new."""
    positional: ClassVar[tuple[str, ...]] = (
        "tile_size", "tile_overlap", "num_inference_steps", "guidance_scale", "decode_chunk_size",
        "num_videos_per_prompt", "generator", "latents", "output_type",
    )  # fmt: skip
    """Settings that the call also takes by position, behind `num_frames`, in the released order."""
    draws_channels_first: ClassVar[bool] = False
    """Whether noise is drawn as ``B x C x F x h x w``, as needed to reproduce the published code's seeds."""
    timestep_type: ClassVar[TimestepType] = "discrete"
    """Timesteps that the denoiser was trained with (see `mimic.families.schedulers`)."""
    ranks: Ranks | None = None
    """Processes among which the windows of each step are shared; None for a single process."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Settings" in cls.__dict__:
            cls.__call__ = with_settings(AnimationPipeline.__call__, cls.Settings)  # type: ignore[method-assign]

    # What a family defines

    @abstractmethod
    def check_parts(self) -> None:
        """Raise `ValueError` if the components do not fit each other."""

    @abstractmethod
    def encode(self, inputs: Inputs, plan: Plan[SettingsT]) -> ConditionsT:
        """Compute the conditions, which are constant throughout the run."""

    # Hooks with a default implementation

    @property
    def size_unit(self) -> int:
        """Factor by which VAE and denoiser downsample; generated videos have multiples of it as size."""
        return self.pixels_per_latent * 2 ** (len(self.denoiser.config.block_out_channels) - 1)

    def check_plan(self, plan: Plan[SettingsT]) -> None:
        """Raise `ValueError` if this family does not support the plan."""

    def frames_of_noise(self, plan: Plan[SettingsT]) -> int:
        """Return the number of frames of noise to draw; the noise is repeated to the clip's length."""
        return frames_to_draw(plan.num_frames, plan.tile_size, plan.noise)

    def fusion_weights(self, plan: Plan[SettingsT]) -> list[Tensor]:
        """Return the fusion weight of each frame of each window."""
        return fusion_weights(plan.windows, plan.fusion)

    # The call

    def __call__(
        self,
        image: Pictures,
        image_pose: PoseMaps | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        *,
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 - diffusers' signature
        return_dict: bool = True,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> AnimationOutput | Frames:
        """Animate a reference picture.

        Omitted settings take the value stored with the weights (`generation_defaults`), else the released
        value (`released`).

        Args:
            image: the reference, or a list or batch with one reference for each video: PIL, uint8 or float in
                [0, 1], ``H x W x 3`` or ``3 x H x W``. Resized to the video's size.
            image_pose: driving maps, RGB: float ``F x 3 x H x W`` in [-1, 1], float or uint8
                ``F x H x W x 3``, or a list of PIL pictures; a list of these, or a fifth axis, gives each
                video different maps. Or a callable ``maps(frames)`` that draws the maps of the given frames
                on demand. Frame 0 is the reference's pose if `shows_reference_first`. None animates without
                poses. See `mimic.data.pose_maps`.
            height, width: of the video in pixels, multiples of `pixels_per_latent`; by default those of the
                maps.
            num_frames: frames of the video; by default all frames of `image_pose`.
            num_videos_per_prompt: number of videos for each reference.
            generator: source of all noise; with a list of one for each video, each equals a separate run.
            latents: unit normal noise ``B x f x C x h x w``; f is `tile_size` (repeated) or `num_frames`.
            output_type: ``pil``, ``np``, ``pt`` or ``latent`` (see `AnimationOutput`).
            callback_on_step_end: ``callback(pipe, step, t, {"latents": …})``, run after each step; sampling
                continues from the tensors of the dictionary that it returns. It may set
                ``pipe._guidance_scale`` and ``pipe._interrupt``.
            callback_on_step_end_tensor_inputs: tensors passed to it, of `_callback_tensor_inputs`.
            return_dict: return an `AnimationOutput`; if false, only the frames, as the released code does.
            device: where to compute; the pipeline is moved there unless it is offloaded.

        Raises:
            ValueError: an argument does not fit the model or another argument.
            TypeError: an argument is unknown, or a generator or callback is none.
            RuntimeError: the pipeline's scheduler is in use by a run that has not ended.
        """
        inputs = read_inputs(
            image,
            image_pose,
            num_videos_per_prompt=num_videos_per_prompt,
            latents=latents,
            size=(height, width),
        )
        plan = self.plan(
            num_frames=inputs.num_frames if num_frames is None else num_frames,
            height=inputs.height,
            width=inputs.width,
            generator=generator,
            **settings,
        )
        report = step_report(
            callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs
        )
        if device is not None and not self.is_offloaded:
            self.to(named_device(device))
        with used_by_one_run(self.scheduler):
            frames = self.animate(inputs, plan, output_type=output_type, report=report)
        return AnimationOutput(frames=frames) if return_dict else frames

    def plan(
        self,
        *,
        num_frames: int | None,
        height: int | None = None,
        width: int | None = None,
        generator: Generators = None,
        **settings: Any,
    ) -> Plan[SettingsT]:
        """Resolve the settings of a run and lay out its windows, without computing anything expensive.

        Args:
            num_frames: frames of the video, including the reference's if `shows_reference_first`.
            height, width: of the video in pixels; by default as stored with the weights, else as released.
            generator: source of all noise.
            settings: settings by name, see `Settings`.

        Raises:
            ValueError: a setting is unknown, invalid, or does not fit another one or the model.
        """
        if num_frames is None:
            raise ValueError("num_frames is not given and image_pose does not determine it; give num_frames.")
        checks.check_present(self.components)
        name = type(self).__name__
        chosen = resolve(
            self.Settings,
            settings,
            stored=self.generation_defaults,
            released=self.released,
            source=name,
            takes_sigmas=self.timestep_type == "continuous",
        )
        chosen = with_step_count(chosen)
        plan = Plan(
            height=self._side("height", height),
            width=self._side("width", width),
            num_frames=num_frames,
            tile_size=chosen.tile_size,
            tile_overlap=chosen.tile_overlap,
            layout=chosen.windows,
            windows=lay_windows(num_frames, chosen.tile_size, chosen.tile_overlap, chosen.windows),
            num_inference_steps=chosen.num_inference_steps,
            guidance_scales=guidance.ramp(chosen.min_guidance_scale, chosen.max_guidance_scale, num_frames),
            fusion=chosen.fusion,
            noise=chosen.noise,
            decode_chunk_size=chosen.decode_chunk_size,
            decode_overlap=chosen.decode_overlap,
            generator=list(generator) if isinstance(generator, tuple) else generator,
            settings=chosen,
        )
        checks.check_known("windows", plan.layout, self.layouts)
        if plan.layout == "closed" and plan.fusion in {"progressive", "none"}:
            raise ValueError(
                f"fusion '{plan.fusion}' depends on the order of windows, and closed windows have none; use "
                "windows: sliding, or leave windows out."
            )
        checks.check_decoding(plan.decode_chunk_size, plan.decode_overlap)
        checks.check_size(plan.height, plan.width, self.pixels_per_latent)
        name = type(self.scheduler).__name__
        if chosen.guidance_interval is not None and not has_noise_levels(self.scheduler):
            raise ValueError(f"guidance_interval needs a scheduler with noise levels; {name} has none.")
        if chosen.schedule == "aligned" and self.timestep_type != "continuous":
            raise ValueError(
                "schedule 'aligned' is made for families on continuous timesteps, as MimicMotion; leave "
                "schedule out."
            )
        self.check_plan(plan)
        return plan

    def _side(self, name: str, given: int | None) -> int:
        return checks.read_side(name, self.default(name) if given is None else given)

    @torch.no_grad()
    def animate(
        self,
        inputs: Inputs,
        plan: Plan[SettingsT],
        *,
        output_type: str = "pil",
        report: StepReport | None = None,
    ) -> Frames:
        """Run all stages in order and return the frames as `output_type`."""
        self._interrupt = False
        try:
            self.check(inputs, plan, output_type)
            self._align_weights()
            with self.at_speed(plan):
                conditions = self.encode(inputs, plan)
                noise = self.prepare(inputs, plan)
                latents = self.denoise(plan, conditions, noise, report or StepReport())
            return self.decode(
                latents,
                plan.decode_chunk_size,
                output_type,
                overlap=plan.decode_overlap,
                tile=plan.settings.decode_tile_size,
                optimize=plan.is_optimized,
            )
        finally:
            self.maybe_free_model_hooks()

    def check_steps(self, plan: Plan[SettingsT]) -> None:
        """Raise `ValueError` if the scheduler cannot make the steps of the plan; sets them."""
        check_scheduler(self.scheduler, self.timestep_type)
        if self.timestep_type == "discrete":
            check_same_noise(self.scheduler, self.own_noise)
        self._set_timesteps(plan)

    def check(self, inputs: Inputs, plan: Plan[SettingsT], output_type: str = "pil") -> None:
        """Raise `ValueError` if parts do not fit each other or the inputs do not fit the plan."""
        self.check_parts()
        self.check_steps(plan)
        checks.check_known("output_type", output_type, OUTPUT_TYPES)
        num_videos = len(inputs.pictures)
        checks.check_videos(num_videos, plan.generator)
        checks.check_latents(
            inputs.latents,
            num_videos=num_videos,
            lengths={plan.tile_size, plan.num_frames},
            shape=self.latent_shape(plan.height, plan.width),
        )
        checks.check_pose_maps(
            inputs.pose_maps,
            num_videos=num_videos,
            num_frames=plan.num_frames,
            height=plan.height,
            width=plan.width,
        )

    def prepare(self, inputs: Inputs, plan: Plan[SettingsT]) -> Tensor:
        """Set the timesteps; return the initial latents ``B x F x C x h x w``, float32, drawn or given."""
        device = self.execution_device
        self._set_timesteps(plan)
        noise = inputs.latents
        if noise is None:
            channels, h, w = self.latent_shape(plan.height, plan.width)
            frames = self.frames_of_noise(plan)
            axes = (channels, frames) if self.draws_channels_first else (frames, channels)
            noise = draw_noise(
                (len(inputs.pictures), *axes, h, w), plan.generator, device=device, dtype=self.denoiser.dtype
            )
            if self.draws_channels_first:
                noise = noise.transpose(1, 2)
        latents = repeat_along_time(noise.to(device, torch.float32), plan.num_frames)
        return latents * self.scheduler.init_noise_sigma

    def _set_timesteps(self, plan: Plan[SettingsT]) -> None:
        sigmas = plan.settings.sigmas
        if plan.settings.schedule == "aligned" and sigmas is None:
            sigma_max = self.scheduler.config.get("sigma_max")
            sigmas = tuple(aligned_sigmas(plan.num_inference_steps, sigma_max))
        set_timesteps(
            self.scheduler,
            self.timestep_type,
            plan.num_inference_steps,
            sigmas=sigmas,
            timesteps=plan.settings.timesteps,
            device="cpu",  # where schedulers have their tables, so that steps do not wait for the device
        )

    def denoise(
        self, plan: Plan[SettingsT], conditions: ConditionsT, latents: Tensor, report: StepReport
    ) -> Tensor:
        """Sample latents ``B x F x C x h x w``, in the denoiser's precision."""
        self._set_guidance(plan)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        num_done, state = 0, {"scheduler": self.scheduler, "generator": plan.generator}
        if report.keeper is not None:
            num_done, latents = report.keeper.resume(latents, num_steps=len(timesteps), **state)
        self.begin_steps(plan, step=num_done)
        step_arguments = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            step_arguments["generator"] = plan.generator
        after_step = AfterStep(self, report, conditions, state, keep_every=plan.settings.reuse_interval or 1)
        total = len(timesteps) * len(plan.windows)
        with report.counted(self.progress_bar, total, num_done * len(plan.windows)) as after_window:
            latents = denoise(
                self.guided_prediction(plan, after_step),
                latents,
                scheduler=self.scheduler,
                timesteps=timesteps,
                windows=plan.windows,
                weights=self.fusion_weights(plan),
                step_arguments=step_arguments,
                share=None if self.ranks is None else self.ranks.in_order,
                after_window=after_window,
                after_step=after_step,
                is_interrupted=lambda: self.interrupt,
                num_done=num_done,
            )
        return latents.to(self.denoiser.dtype)
