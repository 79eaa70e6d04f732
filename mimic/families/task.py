"""Interface between a family and the trainer: networks, random draws of a sample, loss, validation samples.

The trainer is independent of the family: it draws, encodes, calls the model, steps and saves. All random
numbers are drawn on the CPU for one sample at a time, from a generator seeded by (seed, step, position in the
global batch), so that results do not depend on the number of processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mimic.config.loading import Config
from mimic.data.batch import AnySample, Batch, EncodedBatch, RawBatch, Sample, with_references
from mimic.data.transforms import as_pixels
from mimic.families.amplification import check_regions
from mimic.families.base import AnimationPipeline
from mimic.families.decoded import CROPS, decoded_loss
from mimic.models.vae import encode_images

if TYPE_CHECKING:
    from typing_extensions import Self

Draws = dict[str, Tensor]


@dataclass
class Loss:
    """Loss returned by a forward pass in training."""

    total: Tensor
    """Mean over the batch, a scalar with gradient."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log, by name."""
    by_sample: Tensor | None = None
    """Detached loss of each sample, ``B``, for losses by noise level; None: not known."""

    def with_term(self, name: str, by_sample: Tensor) -> Loss:
        """Add another loss of each sample, ``B`` with gradient."""
        total = by_sample.detach() if self.by_sample is None else self.by_sample + by_sample.detach()
        terms = {**self.terms, name: by_sample.detach().mean()}
        return Loss(self.total + by_sample.mean(), terms, total)


class Objective(Config):
    """Settings that every family's `objective:` of a training YAML has."""

    amplification: Mapping[str, float] = {}
    """Factor of the loss inside each region, by region (see `mimic.families.amplification`); `data.regions`
    has to name these regions. {}: no amplification, as published."""
    decoded_weight: float = Field(0.0, ge=0)
    """Weight of the loss on decoded crops beside that on latents (see `mimic.families.decoded`), for models
    that draw in one or few steps; 0: none, as published."""
    decoded_crop: int = Field(8, ge=1)
    """Side of these crops in latent pixels; each frame has one."""
    decoded_centres: Mapping[str, float] = {}
    """Share of the crops with a centre in each region; the others have it anywhere. `data.regions` has to
    name these regions."""

    @property
    def regions(self) -> set[str]:
        """The regions of which masks are needed."""
        return set(self.amplification) | (set(self.decoded_centres) if self.decoded_weight else set())

    @model_validator(mode="after")
    def _check_centres(self) -> Self:
        shares = self.decoded_centres.values()
        if any(not share >= 0 for share in shares) or sum(shares) > 1 + 1e-6:
            raise ValueError(
                f"decoded_centres are {dict(self.decoded_centres)}; expected shares from 0, "
                "together 1 at most"
            )
        return self


DecodedLoss = Callable[[Tensor, Tensor, Mapping[str, Tensor], Draws], Tensor]
"""`TrainingTask.decoded_loss`, as networks call it."""


def input_dtype(network: nn.Module, like: Tensor) -> torch.dtype:
    """Return the dtype in which a network takes its inputs in training.

    float32 under autocast, which casts inputs where they are used, so that none is rounded earlier; else that
    of the network's weights.

    Args:
        network: the network.
        like: a tensor on its device.
    """
    device = like.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.float32
    return next(network.parameters()).dtype


PipelineT = TypeVar("PipelineT", bound=AnimationPipeline)
SettingsT = TypeVar("SettingsT", bound=Objective)


class TrainingTask(ABC, Generic[PipelineT, SettingsT]):
    """Defines the training of one family: networks, random draws, loss, conversion back to a pipeline.

    `model` is one module that holds every trainable network, under the names used by `trainable` (``unet``,
    ``pose_net``, ...). ``model(batch, draws)`` returns a `Loss`, so it can be wrapped for distributed
    training as a whole. Frozen networks (VAE, image encoder) are in `frozen` and never wrapped.

    Args:
        pipeline: its networks are trained in place.
        settings: the objective.
    """

    Settings: ClassVar[type[Objective]]
    """Class of the family's settings, the `objective:` of a training YAML."""
    frozen_parts: ClassVar[tuple[str, ...]] = ("vae", "image_encoder")
    """Components of the pipeline that are used in training but never trained."""
    encoded_together: int = 1
    """Pictures that the VAE encodes together; more are faster on a GPU and change the last bits."""

    def __init__(self, pipeline: PipelineT, settings: SettingsT) -> None:
        self._pipeline = pipeline
        self.settings = settings
        self.frozen: dict[str, nn.Module] = {name: pipeline.components[name] for name in self.frozen_parts}
        for module in self.frozen.values():
            module.requires_grad_(False).eval()
        self.model = self.make_model()

    @classmethod
    def from_pipeline(cls, pipeline: PipelineT, settings: SettingsT) -> Self:
        """Create a task that trains the networks of an inference pipeline in place."""
        return cls(pipeline, settings)

    def pipeline(self) -> PipelineT:
        """Return the inference pipeline with the networks being trained (shared, not copied)."""
        return self._pipeline

    # Defined by each family

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Return the module to train, described at the class."""

    @classmethod
    @abstractmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> PipelineT:
        """Build a pipeline with random weights, small enough to train twenty steps within seconds."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Return the names that `trainable` accepts in addition to modules of `model`, each with `fnmatch`
        patterns of parameter names: ``{"unet.temporal": ["unet.*temporal*"]}``."""

    @abstractmethod
    def draw_for(self, sample: AnySample, generator: torch.Generator) -> Draws:
        """Implement `draw` for a sample that has been checked."""

    @abstractmethod
    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of each exported file, in the key layout of the published checkpoint."""

    def check(self, sample: AnySample) -> None:
        """Raise `ConfigError` if the data does not fit the objective."""
        check_regions(self.settings.regions, sample.masks)

    def embed(self, reference_B3HW: Tensor) -> Tensor | None:
        """Embed references in [-1, 1] to ``B x D``; None if the family uses no image embedding."""
        return None

    def noise_levels(self) -> dict[str, Draws]:
        """Return draws of one sample that fix its noise level and keep all conditions, by names for the log;
        for validation losses that can be compared from step to step."""
        return {}

    def place_of_level(self, draws: Draws) -> Tensor | None:
        """Return where noise levels lie on an axis on which the nearest of `noise_levels` is found: a
        timestep, or the logarithm of sigma. None: the loss of steps is not logged by level."""
        return None

    @property
    def inert(self) -> Sequence[str]:
        """Return patterns of parameters on which no result depends, and which are never trained: queries and
        keys of attention to a single token, whose weight is 1 whatever they are."""
        return ()

    @property
    def needs_reference(self) -> bool:
        """Whether training needs the reference's pixels beside its latents."""
        return False

    def call_arguments(self) -> dict[str, Any]:
        """Return settings of the pipeline's call with which it samples as it was trained."""
        return {}

    # Shared by all families

    def draw(self, sample: AnySample, generator: torch.Generator) -> Draws:
        """Draw all random numbers of one sample in one step (noise level, noise, dropped conditions).

        The trainer stacks the draws of a batch. They must depend only on the sample's shapes and the
        generator.

        Returns:
            float32 tensors on the CPU, by name.

        Raises:
            ConfigError: the data does not fit the objective (a `ValueError`).
        """
        self.check(sample)
        draws = self.draw_for(sample, generator)
        if self.settings.decoded_weight:
            draws[CROPS] = torch.rand(sample.num_frames, 2, generator=generator)
        return draws

    def decoded_loss(self, x0_hat: Tensor, x0: Tensor, masks: Mapping[str, Tensor], draws: Draws) -> Tensor:
        """Return the weighted loss on decoded crops of each sample, ``B``.

        Args:
            x0_hat, x0: denoised and true latents of the targets, scaled, ``B x F x C x h x w``.
            masks: of the targets, ``B x F x 1 x h x w``.
            draws: of the samples, stacked.
        """
        settings = self.settings
        vae = self._pipeline.vae
        scale = float(vae.config.scaling_factor)
        return settings.decoded_weight * decoded_loss(
            vae,
            x0_hat / scale,
            x0 / scale,
            masks,
            draws[CROPS],
            factors=settings.amplification,
            centres=settings.decoded_centres,
            side=settings.decoded_crop,
        )

    @torch.no_grad()
    def encode(self, batch: Batch, *, references: int = 1) -> EncodedBatch:
        """Return the batch as the model takes it: encoded, with pose maps in [-1, 1].

        Args:
            batch: the clips; with several references, of pixels.
            references: how many pictures of each clip are its reference, one after the other; the result has
                as many clips for each of the batch (`with_references`).
        """
        pose_maps = as_pixels(batch.pose_maps)
        if isinstance(batch, EncodedBatch):
            reference = None if batch.reference is None else as_pixels(batch.reference)
            return replace(batch, pose_maps=pose_maps, reference=reference)
        if references > 1:
            return self._encoded_with_references(batch, pose_maps, references)
        reference = as_pixels(batch.reference)
        latents = self._latents(as_pixels(batch.frames).flatten(0, 1))
        reference_latents, embedding = self.encode_pictures(reference)
        return EncodedBatch(
            latents=latents.unflatten(0, batch.frames.shape[:2]),
            reference_latents=reference_latents,
            image_embedding=latents.new_empty(len(batch), 0) if embedding is None else embedding,
            pose_maps=pose_maps,
            masks=batch.masks,
            keys=batch.keys,
            reference=reference,
        )

    def _encoded_with_references(self, batch: RawBatch, pose_maps: Tensor, references: int) -> EncodedBatch:
        """Encode every picture once, for all clips in which it is a frame or the reference."""
        pictures = as_pixels(torch.cat([batch.reference[:, None], batch.frames], dim=1))
        latents = self._latents(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        latents = with_references(latents, references)
        reference = with_references(pictures, references)[:, 0]
        embedding = self.embed(reference)
        return EncodedBatch(
            latents=latents[:, 1:],
            reference_latents=latents[:, 0],
            image_embedding=latents.new_empty(len(latents), 0) if embedding is None else embedding,
            pose_maps=with_references(pose_maps, references),
            masks={name: with_references(mask, references) for name, mask in batch.masks.items()},
            keys=tuple(key for key in batch.keys for _ in range(references)),
            reference=reference,
        )

    @torch.no_grad()
    def encode_pictures(self, pictures_B3HW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode pictures in [-1, 1].

        Returns:
            latents ``B x C x h x w`` (unscaled, mode of the posterior) and image embeddings ``B x D``, or
            None if the family uses none.
        """
        return self._latents(pictures_B3HW), self.embed(pictures_B3HW)

    def _latents(self, pictures_B3HW: Tensor) -> Tensor:
        return encode_images(self._pipeline.vae, pictures_B3HW, batch=self.encoded_together)

    @torch.no_grad()
    def generate(self, sample: Sample, *, seed: int) -> Tensor:
        """Animate the reference with the sample's poses, for validation.

        Sampling settings are the pipeline's defaults.

        Returns:
            frames ``F x 3 x H x W`` in [0, 1].
        """
        first = 0 if self._pipeline.shows_reference_first else 1
        was_training = self.model.training
        self.model.eval()
        try:
            videos = self._pipeline(
                ((as_pixels(sample.reference) + 1) / 2).clamp(0, 1),
                image_pose=as_pixels(sample.pose_maps)[first:],
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
                return_dict=False,
                **self.call_arguments(),
            )
        finally:
            self.model.train(was_training)
        assert isinstance(videos, Tensor)
        return videos[0, 1 - first :]
