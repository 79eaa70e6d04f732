"""What a family gives the trainer: its networks, the random draws of a sample, its loss, samples of a model.

The trainer knows no family: it draws, encodes, calls the model, steps and saves. Everything random is drawn
on the CPU for one sample at a time, from a generator that is seeded by (seed, step, place in the global
batch), so that the number of processes changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from mimic.config.loading import Config
from mimic.data.batch import Batch, Sample
from mimic.families.amplification import check_regions
from mimic.families.base import AnimationPipeline
from mimic.models.vae import encode_images

if TYPE_CHECKING:
    from typing_extensions import Self

Draws = dict[str, Tensor]


@dataclass
class Loss:
    """Result of a forward pass in training."""

    total: Tensor
    """Scalar with gradient: the mean over the batch."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log."""


class Objective(Config):
    """Base of every family's `objective:` of a training YAML."""

    amplification: Mapping[str, float] = {}
    """Region to the factor of its loss (`mimic.families.amplification`); the data has to mask these regions.
    {}: none, as published."""


PipelineT = TypeVar("PipelineT", bound=AnimationPipeline)
SettingsT = TypeVar("SettingsT", bound=Objective)


class TrainingTask(ABC, Generic[PipelineT, SettingsT]):
    """Training of one family: networks, random draws, loss, and the way back to a pipeline.

    `model` is one module that holds every network that may be trained, under the names that `trainable` uses
    (``unet``, ``pose_net``, ...); ``model(batch, draws)`` returns a `Loss`, so that it can be wrapped for
    distributed training as a whole. Frozen networks (VAE, image encoder) are in `frozen` and never wrapped.

    Args:
        pipeline: whose networks are trained, in place.
        settings: the objective.
    """

    Settings: ClassVar[type[Objective]]
    """The family's own settings: the `objective:` of a training YAML."""
    frozen_parts: ClassVar[tuple[str, ...]] = ("vae", "image_encoder")
    """Parts of the pipeline that are used in training but never trained."""

    def __init__(self, pipeline: PipelineT, settings: SettingsT) -> None:
        self._pipeline = pipeline
        self.settings = settings
        self.frozen: dict[str, nn.Module] = {name: pipeline.components[name] for name in self.frozen_parts}
        for module in self.frozen.values():
            module.requires_grad_(False).eval()
        self.model = self.make_model()

    @classmethod
    def from_pipeline(cls, pipeline: PipelineT, settings: SettingsT) -> Self:
        """A task that trains the networks of an inference pipeline, in place."""
        return cls(pipeline, settings)

    def pipeline(self) -> PipelineT:
        """The inference pipeline around the networks that are being trained (shared, not copied)."""
        return self._pipeline

    # Of each family

    @abstractmethod
    def make_model(self) -> nn.Module:
        """The module that is trained, see above."""

    @classmethod
    @abstractmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> PipelineT:
        """A pipeline of random weights, small enough to train twenty steps within seconds."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Names for `trainable` that are no module of `model`, as patterns (`fnmatch`) over its parameters'
        names: ``{"unet.temporal": ["unet.*temporal*"]}``."""

    @abstractmethod
    def draw_for(self, sample: Sample, generator: torch.Generator) -> Draws:
        """See `draw`; `sample` has been checked."""

    @abstractmethod
    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """File name to tensors, in the key layout of the published checkpoint."""

    def check(self, sample: Sample) -> None:
        """Raise `ConfigError` for data that does not fit the objective."""
        check_regions(self.settings.amplification, sample.masks)

    def embed(self, reference_B3HW: Tensor) -> Tensor | None:
        """Image embeddings ``B x D`` of references in [-1, 1]; None: this family uses none."""
        return None

    def call_arguments(self) -> dict[str, Any]:
        """The family's own arguments of the pipeline's call, so that it samples as it was trained."""
        return {}

    # Of all families

    def draw(self, sample: Sample, generator: torch.Generator) -> Draws:
        """Everything random of one sample in one step (noise level, noise, dropouts): CPU, float32.

        The trainer stacks the draws of a batch. They must depend on the sample's shapes and on the generator
        alone.

        Raises:
            ConfigError: the data does not fit the objective.
        """
        self.check(sample)
        return self.draw_for(sample, generator)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Batch:
        """Fill in the latents (unscaled, the posterior's mode) and image embeddings that the batch lacks."""
        vae, changes = self._pipeline.vae, {}
        if batch.latents is None:
            latents = encode_images(vae, batch.frames.flatten(0, 1))
            changes["latents"] = latents.unflatten(0, batch.frames.shape[:2])
        if batch.reference_latents is None:
            changes["reference_latents"] = encode_images(vae, batch.reference)
        if batch.image_embedding is None:
            embedding = self.embed(batch.reference)
            if embedding is not None:
                changes["image_embedding"] = embedding
        return replace(batch, **changes)

    @torch.no_grad()
    def generate(self, sample: Sample, *, seed: int) -> Tensor:
        """The reference in the sample's poses, ``F x 3 x H x W`` in [0, 1]: for validation.

        Sampling settings are the pipeline's own defaults.
        """
        first = 0 if self._pipeline.shows_reference_first else 1
        was_training = self.model.training
        self.model.eval()
        try:
            videos = self._pipeline(
                ((sample.reference + 1) / 2).clamp(0, 1),
                image_pose=sample.pose_maps[first:],
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
                return_dict=False,
                **self.call_arguments(),
            )
        finally:
            self.model.train(was_training)
        assert isinstance(videos, Tensor)
        return videos[0, 1 - first :]
