"""The record that describes a family: everything the rest of the package needs to know about it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mimic.families.base import AnimationPipeline
    from mimic.families.task import TrainingTask


def _nothing(_path: Path) -> bool:
    return False


@dataclass(frozen=True)
class Family:
    """Describes a family; classes are named as ``module:Class`` and imported on first use."""

    name: str
    """Name of the family, as in `family:` of a training YAML."""
    pipeline: str
    """Its `AnimationPipeline`; `model_index.json` holds the name of this class."""
    task: str | None = None
    """Its `TrainingTask`; None if the family cannot be trained."""
    tiny: str | None = None
    """A function ``tiny_pipeline(height=…, width=…, seed=…)`` that builds a pipeline with random weights,
    small enough to run in seconds; None if there is none."""
    recognises: Callable[[Path], bool] = _nothing
    """Function that returns whether a checkpoint (a file or a folder) holds released weights of this
    family."""
    checkpoint_files: tuple[str, ...] = ()
    """Files of a released checkpoint folder, named in error messages."""
    miniature: str | None = None
    """Its bundled miniature, as ``bundled:…``; None if there is none."""

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline class."""
        return self.pipeline.partition(":")[2]

    def pipeline_class(self) -> type[AnimationPipeline[Any, Any]]:
        """Import and return the pipeline class."""
        return cast("type[AnimationPipeline[Any, Any]]", _found(self.pipeline))

    def tiny_pipeline(self, *, height: int, width: int, seed: int) -> AnimationPipeline[Any, Any]:
        """Build a pipeline with random weights, small enough to run in seconds.

        Args:
            height, width: default size of its videos in pixels, multiples of 8.
            seed: of the weights.

        Raises:
            ValueError: the family has no tiny pipeline, or a side is not a multiple of 8.
        """
        if self.tiny is None:
            raise ValueError(f"family '{self.name}' has no tiny model.")
        return cast("AnimationPipeline[Any, Any]", _found(self.tiny)(height=height, width=width, seed=seed))

    def task_class(self) -> type[TrainingTask[Any, Any]]:
        """Import and return the class that trains the family.

        Raises:
            ValueError: the family cannot be trained.
        """
        if self.task is None:
            raise ValueError(f"family '{self.name}' has no training.")
        return cast("type[TrainingTask[Any, Any]]", _found(self.task))


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
