"""One published system as a record: all that the rest of the package needs to know of it."""

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
    """Names a family's pipeline and training as ``module:Class``, so that a record costs no import."""

    name: str
    """`family` of a training YAML."""
    pipeline: str
    """Its `AnimationPipeline`, called in `model_index.json` by the name of its class."""
    task: str | None = None
    """Its `TrainingTask`; None: it cannot be trained."""
    tiny: str | None = None
    """A function ``tiny_pipeline(height=…, width=…, seed=…)`` that makes a pipeline of random weights, small
    enough to try the family in seconds."""
    recognises: Callable[[Path], bool] = _nothing
    """Whether a checkpoint, a file or a folder, holds released weights of this family."""
    checkpoint_files: tuple[str, ...] = ()
    """What such a folder holds, for messages."""
    miniature: str | None = None
    """Its bundled miniature, as ``bundled:…``."""

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline's class."""
        return self.pipeline.partition(":")[2]

    def pipeline_class(self) -> type[AnimationPipeline[Any, Any]]:
        """The pipeline's class."""
        return cast("type[AnimationPipeline[Any, Any]]", _found(self.pipeline))

    def tiny_pipeline(self, *, height: int, width: int, seed: int) -> AnimationPipeline[Any, Any]:
        """A pipeline of random weights, small enough to try the family in seconds.

        Raises:
            ValueError: the family has none.
        """
        if self.tiny is None:
            raise ValueError(f"family '{self.name}' has no tiny model.")
        return cast("AnimationPipeline[Any, Any]", _found(self.tiny)(height=height, width=width, seed=seed))

    def task_class(self) -> type[TrainingTask[Any, Any]]:
        """The class that trains the family.

        Raises:
            ValueError: it cannot be trained.
        """
        if self.task is None:
            raise ValueError(f"family '{self.name}' has no training.")
        return cast("type[TrainingTask[Any, Any]]", _found(self.task))


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
