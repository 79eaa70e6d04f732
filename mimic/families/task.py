"""What a family gives the trainer: its networks, what is drawn at random for a sample, its loss.

The trainer knows no family: it draws, encodes, calls the model, steps and saves. Everything random is drawn
on the CPU for one sample at a time, from a generator that is seeded by (seed, step, place in the global
batch), so that the number of processes changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mimic.config.loading import Config, ConfigError
from mimic.data.batch import Batch, Sample

Draws = dict[str, Tensor]


@dataclass
class Loss:
    """What a forward pass in training gives."""

    total: Tensor
    """Scalar with gradient: the mean over the batch."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log."""


def draw_timestep(num_steps: int, chosen: tuple[int, int] | None, generator: torch.Generator) -> Tensor:
    """A timestep (int64 scalar), evenly from all `num_steps` or from the `chosen` ones: first and end.

    Raises:
        ConfigError: there are no such timesteps.
    """
    first, end = chosen or (0, num_steps)
    if not 0 <= first < end <= num_steps:
        raise ConfigError(
            f"objective.timesteps is [{first}, {end}]; expected 0 <= first < second <= {num_steps}, the "
            "scheduler's number"
        )
    return torch.randint(first, end, (), generator=generator)


class TrainingTask(ABC):
    """One family's training: networks, random draws, loss, and the way back to a pipeline.

    `model` is one module that holds every network that may be trained, under the names that `trainable` uses
    (``unet``, ``pose_net``, ...); ``model(batch, draws)`` gives a `Loss`, so that it can be wrapped for
    distributed training as a whole. Frozen networks (VAE, image encoder) are in `frozen` and never wrapped.
    """

    Settings: ClassVar[type[Config]]
    """The family's own settings: the `objective:` of a training YAML."""

    model: nn.Module
    frozen: dict[str, nn.Module]

    @classmethod
    @abstractmethod
    def from_pipeline(cls, pipeline: Any, settings: Config) -> TrainingTask:
        """A task that trains the networks of an inference pipeline, in place."""

    @classmethod
    @abstractmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> Any:
        """A pipeline of random weights, small enough to train twenty steps within seconds."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Names for `trainable` that are no module of `model`, as patterns (`fnmatch`) over its parameters'
        names: ``{"unet.temporal": ["unet.*temporal*"]}``."""

    @abstractmethod
    def draw(self, sample: Sample, generator: torch.Generator) -> Draws:
        """Everything random of one sample in one step (noise level, noise, dropouts): CPU, float32.

        The trainer stacks the draws of a batch. They must depend on the sample's shapes and on the generator
        alone.
        """

    @abstractmethod
    def encode(self, batch: Batch) -> Batch:
        """Fill in the latents and embeddings that the batch lacks, by the frozen networks."""

    @abstractmethod
    def pipeline(self) -> Any:
        """The inference pipeline around the current weights (shared, not copied)."""

    @abstractmethod
    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """File name to tensors, in the key layout of the published checkpoint."""

    @abstractmethod
    def generate(self, sample: Sample, *, seed: int) -> Tensor:
        """The reference in the sample's poses, ``F x 3 x H x W`` in [0, 1]: for validation."""
