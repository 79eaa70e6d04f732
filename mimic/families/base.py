"""What all families of animation pipelines share: the order of work, defaults beside the weights, frames out.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents.
"""

from __future__ import annotations

import json
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from torch import Tensor
from transformers.utils import logging as transformers_logging

from mimic.data.transforms import frames_to_uint8
from mimic.files import apply_umask
from mimic.models.image_embedding import image_processor_class
from mimic.models.vae import decode_frames, vae_downscale
from mimic.sampling import guidance
from mimic.weights.lora import merge_lora
from mimic.weights.parts import load_parts
from mimic.weights.sources import MODEL_TEXTS, resolve
from mimic.weights.strict import align_memory

DEFAULTS_FILE = "mimic.json"
_HUB_OPTIONS = ("revision", "cache_dir", "token", "force_download", "proxies")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")

Frames = list[list[Image.Image]] | np.ndarray | Tensor
StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


@dataclass
class AnimationOutput(BaseOutput):
    """The video or videos, frame 0 being the reference's own."""

    frames: Frames
    """``pil``: a list of frames for each video; ``np``: ``B x F x H x W x 3`` in [0, 1]; ``pt``: the same as
    ``B x F x 3 x H x W``; ``latent``: ``B x F x C x h x w``, as `decode_stream` takes them."""


@dataclass(frozen=True)
class StepReport:
    """Whom to tell about the end of a denoising step, in diffusers' way."""

    callback: StepCallback | None = None
    tensor_inputs: tuple[str, ...] = ("latents",)


class AnimationPipeline(DiffusionPipeline):
    """check → encode → prepare → denoise → decode, with what does not depend on the family.

    A family defines `__call__`, in which it makes a request of its arguments and hands it to `animate`, and
    the stages. `generation_defaults` are settings that belong to these weights; they are kept in `mimic.json`
    of a model folder and stand in for arguments that a call leaves out.
    """

    _callback_tensor_inputs = ["latents"]  # noqa: RUF012 - diffusers' name and type
    _released_defaults: dict[str, Any] = {}  # noqa: RUF012

    driven_by = "skeleton"
    """What `image_pose` shows: ``skeleton``, as `pose.draw_pose` draws it, or ``densepose``."""
    shows_reference_first = True
    """Whether frame 0 of a video, and of `image_pose`, is the reference's own; else all frames are new."""

    generation_defaults: dict[str, Any]
    vae: Any
    _interrupt = False
    _num_timesteps = 0

    @abstractmethod
    def check(self, request: Any) -> None:
        """Raise for what cannot be animated, before anything heavy is done."""

    @abstractmethod
    def encode(self, request: Any) -> Any:
        """What is constant throughout a run: conditions."""

    @abstractmethod
    def prepare(self, request: Any) -> Any:
        """Noise, timesteps, windows."""

    @abstractmethod
    def denoise(self, request: Any, conditions: Any, start: Any) -> Tensor:
        """Latents ``B x F x C x h x w``."""

    def register_modules(self, **modules: Any) -> None:
        """As in diffusers, but classes go by their public names: saved models outlive our file layout."""
        super().register_modules(**modules)
        public = {}
        for name in modules:
            library, class_name = self.config[name]
            if str(library).startswith("mimic."):
                public[name] = ("mimic", class_name)
            elif str(class_name).endswith("ImageProcessorPil"):
                # transformers 5 without torchvision calls it so; the files are the same.
                public[name] = (library, class_name.removesuffix("Pil"))
        self.register_to_config(**public)

    @torch.no_grad()
    def animate(self, request: Any) -> Frames:
        """All stages in order. `request` has at least `output_type` and `decode_chunk_size`."""
        self._interrupt = False
        try:
            self.check(request)
            self._align_weights()
            conditions = self.encode(request)
            start = self.prepare(request)
            latents = self.denoise(request, conditions, start)
            return self.decode(latents, request.decode_chunk_size, request.output_type)
        finally:
            self.maybe_free_model_hooks()

    def _answer(
        self, request: Any, *, device: torch.device | str | None, return_dict: bool
    ) -> AnimationOutput | Frames:
        """What a call gives for its request, computed on `device` unless offloading looks after that."""
        if device is not None and not getattr(self, "_all_hooks", None):
            self.to(device)
        frames = self.animate(request)
        return AnimationOutput(frames=frames) if return_dict else frames

    def _guidance_scales(self, first: float | None, last: float | None, num_frames: int) -> Tensor:
        """``F``, linear from the first frame's to the last's; one that is given stands for both."""
        given = [scale for scale in (first, last) if scale is not None]
        if not given:
            given = [self.setting("min_guidance_scale"), self.setting("max_guidance_scale")]
        return guidance.ramp(given[0], given[-1], num_frames)

    def decode(self, latents_BFChw: Tensor, chunk: int, output_type: str) -> Frames:
        """Latents as frames of `output_type`, whole (`decode_stream` gives them bit by bit)."""
        if output_type == "latent":
            return latents_BFChw
        videos = [torch.cat(list(self._stream(latents, chunk))) for latents in latents_BFChw]
        if output_type == "pt":
            return torch.stack(videos)
        if output_type == "np":
            return torch.stack(videos).permute(0, 1, 3, 4, 2).numpy()
        return [[Image.fromarray(frame) for frame in frames_to_uint8(video)] for video in videos]

    @torch.no_grad()
    def decode_stream(self, latents: Tensor, chunk: int | None = None) -> Iterator[Tensor]:
        """Frames of one video as they are decoded, so that nobody has to hold them all.

        Args:
            latents: ``F x C x h x w`` or ``1 x F x C x h x w``, as `output_type` ``latent`` gives them; a
                part of them (without frame 0, for instance) is as good.
            chunk: frames decoded together. The decoder looks along time within a chunk, so this is part of
                the result; None takes the model's own default, then 8.

        Yields:
            float32 ``f x 3 x H x W`` in [0, 1] on the CPU, f at most `chunk`.
        """
        if latents.ndim == 5:
            if len(latents) != 1:
                raise ValueError(
                    f"latents hold {len(latents)} videos; stream them one at a time: latents[i]."
                )
            latents = latents[0]
        self._align_weights()
        try:
            yield from self._stream(latents, self.setting("decode_chunk_size", chunk))
        finally:
            self.maybe_free_model_hooks()

    def _align_weights(self) -> None:
        """On the CPU: copy weights that lie at odd addresses, where a mapped file's header puts them.

        Kernels sum in another order there, so that otherwise a model's numbers would differ in their last
        bits from those of its own copy on disk.
        """
        if self._execution_device.type != "cpu":
            return
        for module in self.components.values():
            if isinstance(module, torch.nn.Module):
                align_memory(module)

    def _stream(self, latents_FChw: Tensor, chunk: int) -> Iterator[Tensor]:
        if chunk < 1:
            raise ValueError(f"decode_chunk_size is {chunk}; at least one frame is decoded at a time.")
        for frames in decode_frames(self.vae, latents_FChw.to(self._execution_device), chunk):
            yield (frames / 2 + 0.5).clamp(0, 1).cpu()

    def load_lora(self, path: str | os.PathLike[str], *, scale: float = 1.0) -> list[str]:
        """Merge the low-rank changes that a training wrote (`lora.safetensors`) into these weights.

        Args:
            path: the file.
            scale: strength of the changes: 0 none, 1 as trained.

        Returns:
            names of the weights that changed.

        Raises:
            FileNotFoundError: there is no such file.
            WeightsError: it does not fit this model; every misfit is listed (a `ValueError`).
        """
        networks = {name: part for name, part in self.components.items() if isinstance(part, torch.nn.Module)}
        return merge_lora(networks, path, scale=scale)

    def setting(self, name: str, value: Any = None) -> Any:
        """`value`, or if that is None the default of these weights, or if they have none the released one."""
        if value is not None:
            return value
        return self.generation_defaults.get(name, self._released_defaults.get(name))

    @property
    def pixels_per_latent(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        return vae_downscale(self.vae)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a video of so many pixels."""
        side = self.pixels_per_latent
        return self.vae.config.latent_channels, height // side, width // side

    @property
    def interrupt(self) -> bool:
        """Whether the run was asked to stop after this step (a callback sets `pipe._interrupt`)."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the current or last run."""
        return self._num_timesteps

    def _step_report(self, callback: StepCallback | None, tensor_inputs: list[str]) -> StepReport:
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            tensor_inputs = callback.tensor_inputs
        unknown = sorted(set(tensor_inputs) - set(self._callback_tensor_inputs))
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; "
                f"available are {', '.join(self._callback_tensor_inputs)}."
            )
        return StepReport(callback, tuple(tensor_inputs))

    def _after_step(self, report: StepReport) -> Callable[[int, Tensor, Tensor], Tensor | None]:
        def after_step(i: int, t: Tensor, latents: Tensor) -> Tensor | None:
            if report.callback is not None:
                given = {"latents": latents} if "latents" in report.tensor_inputs else {}
                latents = (report.callback(self, i, t, given) or {}).get("latents", latents).to(latents)
            return None if self.interrupt else latents

        return after_step

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As in diffusers, and `generation_defaults` in `mimic.json`."""
        self.register_modules(**self.components)
        with quiet_libraries():
            super().save_pretrained(save_directory, *args, **kwargs)
        folders = [Path(save_directory) / name for name in self.components]
        apply_umask(file for folder in folders for file in folder.glob("*.safetensors"))
        content = json.dumps({"generation_defaults": self.generation_defaults}, indent=2, ensure_ascii=False)
        (Path(save_directory) / DEFAULTS_FILE).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str], **kwargs: Any) -> Any:
        """A pipeline from a folder that `save_pretrained` wrote, or such a repository of the hub.

        Args:
            model: the folder, the repository's id, or ``bundled:name``.
            kwargs: those of `DiffusionPipeline.from_pretrained`. `torch_dtype` or `dtype` is float32 unless
                given, whatever precision the files have.

        Raises:
            SourceError: nothing to load is there (an `OSError`).
            WeightsError: weights are missing, surplus or of a wrong shape, which diffusers would only log.
        """
        hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs}
        local_files_only = bool(kwargs.pop("local_files_only", False))
        if hub and not os.path.isdir(model):
            wanted = [*MODEL_TEXTS, "*/*.safetensors"]
            folder = Path(
                huggingface_hub.snapshot_download(
                    str(model), allow_patterns=wanted, local_files_only=local_files_only, **hub
                )
            )
        else:
            folder = resolve(model, variant=kwargs.get("variant"), local_files_only=local_files_only)
        given_dtypes = [kwargs.pop(name, None) for name in ("dtype", "torch_dtype")]
        dtype = next((given for given in given_dtypes if given is not None), torch.float32)
        image_processor_class()
        with quiet_libraries():
            parts = load_parts(folder, dtype=dtype, variant=kwargs.get("variant"), given=kwargs)
            pipeline = super().from_pretrained(folder, torch_dtype=dtype, **{**kwargs, **parts})
        pipeline.generation_defaults = _read_defaults(folder)
        return pipeline


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Load or save without the libraries' own progress bars and without their notice that an argument was
    renamed."""
    libraries = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Older versions that we support know the argument by no other name.
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated")
            yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def _read_defaults(folder: Path) -> dict[str, Any]:
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("generation_defaults", {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'{path} is no JSON object with "generation_defaults": {error}.') from error
