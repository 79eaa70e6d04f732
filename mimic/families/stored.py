"""How are a pipeline and the settings that belong to its weights saved and loaded?"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mimic.files import apply_umask
from mimic.models.image_embedding import image_processor_class
from mimic.weights.lora import merge_lora
from mimic.weights.parts import load_parts
from mimic.weights.sources import MODEL_TEXTS, resolve
from mimic.weights.strict import align_memory

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULTS_FILE = "mimic.json"
_HUB_OPTIONS = ("revision", "cache_dir", "token", "force_download", "proxies")


class StoredPipeline(DiffusionPipeline):
    """A diffusers pipeline whose folder also holds `generation_defaults`, in `mimic.json`."""

    generation_defaults: dict[str, Any]
    """Settings that belong to these weights."""

    def __init__(self) -> None:
        super().__init__()
        self.generation_defaults = {}

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

    def _align_weights(self) -> None:
        """On the CPU: copy weights that lie at odd addresses, where a mapped file's header puts them.

        Kernels sum in another order there, so that otherwise a model's numbers would differ in their last
        bits from those of its own copy on disk.
        """
        if self.execution_device.type != "cpu":
            return
        for module in self.components.values():
            if isinstance(module, torch.nn.Module):
                align_memory(module)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As in diffusers, and `generation_defaults` in `mimic.json`."""
        self.register_modules(**self.components)
        with quiet_libraries():
            super().save_pretrained(save_directory, *args, **kwargs)
        folders = [Path(save_directory) / name for name in self.components]
        apply_umask(file for folder in folders for file in folder.glob("*.safetensors"))
        content = json.dumps({"generation_defaults": self.generation_defaults}, indent=2, ensure_ascii=False)
        (Path(save_directory) / DEFAULTS_FILE).write_text(content + "\n", encoding="utf-8")

    @property
    def execution_device(self) -> torch.device:
        """Where the networks compute, also while they are offloaded."""
        return torch.device(self._execution_device)

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str], **kwargs: Any) -> Self:
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
