"""Save and load a pipeline together with the settings recommended for its weights."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import huggingface_hub
import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mimic.families.adapters import AdaptedPipeline
from mimic.families.published import card_of, push
from mimic.files import apply_umask
from mimic.models.image_embedding import image_processor_class
from mimic.weights.errors import SourceError
from mimic.weights.parts import explained, load_parts, loading, read_json, require_parts
from mimic.weights.sources import MODEL_TEXTS, resolve
from mimic.weights.strict import WeightsError, align_memory
from pose.session import disable_telemetry, load_onnxruntime
from pose.text import shown

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULTS_FILE = "mimic.json"
_NOISE_CARRIED = "_mimic_noise"
_CARRIED = "_generation_defaults"
_are_parts_checked: ContextVar[bool] = ContextVar("are_parts_checked", default=False)
_diffusers_log = diffusers_logging.get_logger("diffusers.pipelines.pipeline_utils")
_PUSH_OPTIONS = ("repo_id", "commit_message", "private", "token", "create_pr")
_HUB_OPTIONS = ("revision", "cache_dir", "token", "force_download", "proxies")


class StoredPipeline(AdaptedPipeline):
    """A diffusers pipeline whose folder also holds `generation_defaults`, in `mimic.json`."""

    generation_defaults: dict[str, Any]
    """Settings recommended for these weights, used where a call omits a setting. They travel with the
    denoiser: ``Pipeline(**pipe.components)`` and `from_pipe` have the same ones."""

    own_noise: dict[str, Any]
    """Config of the scheduler that the model came with: how it was trained. Travels as the defaults do."""

    _known_device: torch.device | None = None

    def __init__(self) -> None:
        super().__init__()
        self.generation_defaults = {}
        self.own_noise = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known to `diffusers.DiffusionPipeline.from_pretrained`, which looks it up there.

        Whoever loads or saves a pipeline by diffusers also imports ONNX Runtime, whose telemetry is off then.
        """
        super().__init_subclass__(**kwargs)
        disable_telemetry()
        if not hasattr(diffusers, cls.__name__):
            setattr(diffusers, cls.__name__, cls)

    @property
    def denoiser(self) -> Any:
        """The network run at every step; its dtype is the precision of the latents."""
        return self.unet

    @property
    def components(self) -> dict[str, Any]:
        """All parts by name, as in diffusers; the denoiser carries a copy of `generation_defaults`."""
        parts = super().components
        if isinstance(self.denoiser, torch.nn.Module):
            setattr(self.denoiser, _CARRIED, dict(self.generation_defaults))
            setattr(self.denoiser, _NOISE_CARRIED, dict(self.own_noise))
        return parts

    def register_modules(self, **modules: Any) -> None:
        """Register components as in diffusers, but store the public names of our classes, so that saved
        models still load when modules are moved."""
        super().register_modules(**modules)
        if not self.own_noise:
            carried = getattr(getattr(self, "denoiser", None), _NOISE_CARRIED, None)
            self.own_noise = dict(carried or getattr(getattr(self, "scheduler", None), "config", {}))
        if not self.generation_defaults:
            self.generation_defaults = dict(getattr(getattr(self, "denoiser", None), _CARRIED, {}))
        public = {}
        for name in modules:
            library, class_name = self.config[name]
            if str(library).startswith("mimic."):
                public[name] = ("mimic", class_name)
            elif str(class_name).endswith("ImageProcessorPil"):
                # The class name in transformers 5 without torchvision; the files are the same.
                public[name] = (library, class_name.removesuffix("Pil"))
        self.register_to_config(**public)

    def _align_weights(self) -> None:
        """Copy weights on the CPU whose addresses are unaligned because of a memory-mapped file's header.

        Kernels sum in a different order for unaligned tensors, so a model and its saved copy could otherwise
        differ in the last bits of their results.
        """
        if self.execution_device.type != "cpu":
            return
        for module in self.components.values():
            if isinstance(module, torch.nn.Module):
                align_memory(module)

    def _let_go_of(self, folder: Path) -> None:
        """Copy weights that may be mapped from files of the folder that is to be written, which Windows does
        not replace as long as they are."""
        origin = str(getattr(self.config, "_name_or_path", None) or "")
        if not (os.path.isdir(origin) and folder.is_dir() and os.path.samefile(origin, folder)):
            return
        with torch.inference_mode(False), torch.no_grad():
            parts = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
            for module in (module for part in parts for module in part.modules()):
                for parameter in module.parameters(recurse=False):
                    if parameter.device.type == "cpu":
                        parameter.data = parameter.data.clone()
                for name, buffer in module._buffers.items():
                    if buffer is not None and buffer.device.type == "cpu":
                        module._buffers[name] = buffer.clone()  # it may be a view, which holds its base

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the pipeline as in diffusers, and `generation_defaults` to `mimic.json`.

        LoRA adapters are not saved; `fuse_lora` merges them into the weights first. With ``push_to_hub=True``
        the folder is then published as by `push_to_hub`, as ``repo_id`` or under its own name.
        """
        is_published = bool(kwargs.pop("push_to_hub", False))
        options = {name: kwargs.pop(name) for name in _PUSH_OPTIONS if name in kwargs}
        self.register_modules(**self.components)
        self._let_go_of(Path(save_directory))
        with quiet_libraries(), self.without_adapters():
            super().save_pretrained(save_directory, *args, **kwargs)
        folders = [Path(save_directory) / name for name in self.components]
        apply_umask(file for folder in folders for file in folder.glob("*.safetensors"))
        content = json.dumps({"generation_defaults": self.generation_defaults}, indent=2, ensure_ascii=False)
        (Path(save_directory) / DEFAULTS_FILE).write_text(content + "\n", encoding="utf-8")
        if is_published:
            self.push_to_hub(**({"repo_id": Path(save_directory).absolute().name} | options))

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ) -> str:
        """Publish the pipeline on the Hugging Face hub, with a model card: licence, settings and metrics.

        The card is the one that `mimic train` wrote beside the weights; for other weights it states what is
        known of them. A card that is in the repository already is kept.

        Args:
            repo_id: ``owner/name``; made if it does not exist.
            commit_message, private, token, create_pr, safe_serialization, variant, subfolder: as in
                diffusers.

        Returns:
            address of the commit.
        """
        name = getattr(self.config, "_name_or_path", None)
        source = Path(name) if name and os.path.isdir(name) else None
        return push(
            lambda folder: self.save_pretrained(
                folder, safe_serialization=safe_serialization, variant=variant
            ),
            repo_id,
            card=card_of(type(self).__name__, source, self.generation_defaults),
            source=source,
            message=commit_message or f"Upload {type(self).__name__}",
            private=private,
            token=token,
            create_pr=create_pr,
            subfolder=subfolder,
        )

    @property
    def is_offloaded(self) -> bool:
        """Whether weights are in main memory and move to the device while they are used."""
        networks = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
        return any(hasattr(part, "_hf_hook") or _is_group_offload_enabled(part) for part in networks)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Offload layer by layer to a GPU, as in diffusers.

        Raises:
            ValueError: `device` is the CPU, where accelerate's hooks cannot hold the weights.
        """
        if device is not None and torch.device(device).type == "cpu":
            raise ValueError(
                "enable_sequential_cpu_offload moves one layer at a time from main memory to a GPU, and "
                "device is the CPU, where all weights are; leave the call out, or give a GPU: device='cuda'."
            )
        super().enable_sequential_cpu_offload(gpu_id, device)

    def enable_group_offload(self, *args: Any, **kwargs: Any) -> None:
        """Offload groups of layers, as in diffusers.

        Raises:
            RuntimeError: there is no GPU, and this version of diffusers offloads groups to nothing else.
        """
        try:
            super().enable_group_offload(*args, **kwargs)
        except AttributeError as error:  # diffusers 0.37 asks for the kind of a device that is not there
            if torch.accelerator.is_available():
                raise
            raise RuntimeError(
                "enable_group_offload moves weights to a GPU and back, and there is none; leave the call out."
            ) from error

    @property
    def execution_device(self) -> torch.device:
        """Device on which the networks compute, also if they are offloaded."""
        return self._known_device or torch.device(self._execution_device)

    @contextmanager
    def on_one_device(self) -> Iterator[None]:
        """Take the device of now as `execution_device` until the end; diffusers walks through all modules to
        find it each time, which takes half as long as decoding a small picture."""
        self._known_device = self.execution_device
        try:
            yield
        finally:
            self._known_device = None

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a pipeline that `save_pretrained` wrote, from a folder or a hub repository.

        Args:
            model: folder, hub id or ``bundled:name``.
            kwargs: arguments of `DiffusionPipeline.from_pretrained`. `torch_dtype` or `dtype` is float32 by
                default, whatever the precision of the files.

        Raises:
            SourceError: the model is not found (an `OSError`).
            WeightsError: weights are missing, unexpected or of a wrong shape, which diffusers would only log
                (a `ValueError`).
            TypeError: `torch_dtype` is no precision.
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
        if not isinstance(dtype, torch.dtype | Mapping):
            raise TypeError(
                f"torch_dtype is {shown(dtype)}; expected a torch.dtype, as torch.float16, or a dictionary "
                "with one for each part and for 'default'."
            )
        image_processor_class()
        require_parts(folder, given=kwargs)
        with quiet_libraries(), loading():
            parts = load_parts(folder, dtype=dtype, variant=kwargs.get("variant"), given=kwargs)
            for name, part in parts.items():  # as diffusers says of those that it loads itself
                kind = type(part).__name__
                _diffusers_log.info(f"Loaded {name} as {kind} from `{name}` subfolder of {folder}.")
            token = _are_parts_checked.set(True)
            try:
                with explained(folder):
                    return super().from_pretrained(folder, torch_dtype=dtype, **{**kwargs, **parts})
            finally:
                _are_parts_checked.reset(token)

    def register_to_config(self, **kwargs: Any) -> None:
        """Register as in diffusers, whose `from_pretrained` does so when all parts are there, and read
        `generation_defaults`.

        Raises:
            WeightsError: diffusers' own class loaded weights with gaps (a `ValueError`).
        """
        super().register_to_config(**kwargs)
        folder = kwargs.get("_name_or_path")
        if folder is None or not os.path.isdir(folder) or hasattr(self.denoiser, _CARRIED):
            return
        if not _are_parts_checked.get():
            with quiet_libraries():
                load_parts(Path(folder), dtype=self.dtype, given={})
        self.generation_defaults = self.generation_defaults or _read_defaults(Path(folder))
        setattr(self.denoiser, _CARRIED, dict(self.generation_defaults))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast as in diffusers; the weights can be trained, also under `torch.inference_mode`."""
        with torch.inference_mode(False):
            super().to(*args, **kwargs)
        return self


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide the libraries' progress bars and their notice about a renamed argument while loading or saving."""
    if sys.platform == "win32":
        load_onnxruntime()  # as diffusers does below; its telemetry on Windows is switched off by a call
    libraries = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # The older versions that we support only accept the old name.
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
        defaults = read_json(path).get("generation_defaults", {})
    except SourceError as error:
        raise WeightsError(f'{path} is not a JSON object with "generation_defaults": {error}') from error
    if not isinstance(defaults, dict):
        raise WeightsError(f"{path}: generation_defaults is {shown(defaults)}; expected an object.")
    return defaults
