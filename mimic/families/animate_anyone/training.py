"""Training of Animate Anyone: its networks, the random draws of a sample, the loss, the export.

Stage 1 trains on single frames, without temporal layers; stage 2 trains the temporal layers alone, on clips.
Conditions are those of the inference pipeline: the reference's latents times the scaling factor, its CLIP
embedding, drawn poses. Samples with dropped conditions match the unconditional branch: no reference tokens
and a zero embedding; the pose is kept.

Legend: B batch, F target frames, C latent channels, H x W pixels, h x w latents, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mimic.config.loading import ConfigError
from mimic.data.batch import AnySample, EncodedBatch
from mimic.families.amplification import amplify
from mimic.families.animate_anyone import objective
from mimic.families.animate_anyone.keys import released_state
from mimic.families.animate_anyone.picture import embed_picture
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.animate_anyone.tiny import tiny_pipeline
from mimic.families.ddpm import (
    StagedObjective,
    check_decoded,
    denoised,
    draw_timestep,
    fixed_timesteps,
    noised,
    target_of,
    zero_of,
)
from mimic.families.task import DecodedLoss, Draws, Loss, TrainingTask, input_dtype
from mimic.models.reference import ReferenceBank

_SPATIAL = (
    "conv_in", "time_embedding", "*.resnets", "*.attentions", "*.downsamplers", "*.upsamplers",
    "conv_norm_out", "conv_out",
)  # fmt: skip


class AnimateAnyoneObjective(StagedObjective):
    """The `objective:` of a training YAML for Animate Anyone; defaults are the published values."""

    min_snr_gamma: float | None = Field(5.0, gt=0)
    """Gamma of min-SNR weighting, which bounds the loss weight of steps with little noise; null weighs all
    steps equally."""
    noise_offset: float = Field(0.05, ge=0)
    """Strength of the additional noise that is constant over each latent channel of a video."""
    drop: float = Field(0.1, ge=0, le=1)
    """Fraction of samples trained without reference tokens and image embedding, for classifier-free
    guidance."""


class AnimateAnyoneNetworks(nn.Module):
    """Both UNets and the pose guider as one module, whose forward pass returns the training loss.

    Args:
        pipeline: provides the networks, which are shared, not copied.
        settings: the objective.
        decoded_loss: that of the task.
    """

    def __init__(
        self,
        pipeline: AnimateAnyonePipeline,
        settings: AnimateAnyoneObjective,
        *,
        decoded_loss: DecodedLoss,
    ) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.reference_unet = pipeline.reference_unet
        self.pose_guider = pipeline.pose_guider
        self.settings = settings
        self.decoded_loss = decoded_loss
        self._scheduler = pipeline.scheduler
        self._scaling_factor = float(pipeline.vae.config.scaling_factor)

    def forward(self, batch: EncodedBatch, draws: Draws) -> Loss:
        """Compute the loss of a batch with latents and embeddings, given the stacked draws of its samples."""
        settings, scheduler = self.settings, self._scheduler
        x0 = batch.latents.float() * self._scaling_factor
        t = draws["t"]
        noise = objective.offset_noise(draws["noise"], draws["noise_offset"], settings.noise_offset).float()
        noisy = noised(scheduler, x0, noise, t)
        keep = draws["keep"].bool()
        bank, embedding = self._see_reference(batch, keep)
        predicted = self._run_unet(batch, noisy, t, embedding, bank, keep)
        error = (predicted.float() - target_of(scheduler, x0, noise, t)).square()
        masks = {name: mask[:, 1:] for name, mask in batch.masks.items()}
        weighted = amplify(masks, settings.amplification).to(error) * error
        snr = objective.signal_to_noise(scheduler, t)
        weight = objective.min_snr_weight(snr, settings.min_snr_gamma, scheduler.config.prediction_type)
        by_sample = weight * weighted.mean(dim=(1, 2, 3, 4))
        total = by_sample.mean()
        if not bool(keep.any()):
            total = total + zero_of(bank)
        loss = Loss(total, {"plain": error.detach().mean()}, by_sample.detach())
        if settings.decoded_weight:
            x0_hat = denoised(scheduler, predicted.float(), noisy, t)
            loss = loss.with_term("decoded", self.decoded_loss(x0_hat, x0, masks, draws))
        return loss

    def _see_reference(self, batch: EncodedBatch, keep: Tensor) -> tuple[ReferenceBank, Tensor]:
        """Return the reference features (timestep 0) and the embeddings ``B x 1 x D``, zero where dropped."""
        dtype = input_dtype(self.unet, keep)
        latents = batch.reference_latents.to(dtype) * self._scaling_factor
        embedding = batch.image_embedding[:, None].to(dtype)
        bank = ReferenceBank()
        self.reference_unet(latents, 0, embedding, bank)
        return bank, embedding * keep[:, None, None].to(dtype)

    def _run_unet(
        self,
        batch: EncodedBatch,
        noisy: Tensor,
        t: Tensor,
        embedding: Tensor,
        bank: ReferenceBank,
        keep: Tensor,
    ) -> Tensor:
        dtype = embedding.dtype
        maps = batch.pose_maps[:, 1:]  # in this family, frame 0 is not the reference
        pose = self.pose_guider(maps.flatten(0, 1).to(dtype)).unflatten(0, maps.shape[:2])
        return self.unet(
            noisy.to(dtype),
            t,
            embedding,
            pose_features=pose,
            reference=bank.read(keep.tolist()),
            use_motion=self.settings.stage == 2,
            return_dict=False,
        )[0]


class AnimateAnyoneTask(TrainingTask[AnimateAnyonePipeline, AnimateAnyoneObjective]):
    """Trains Animate Anyone (arXiv 2311.17117) in either stage: both UNets and the pose guider."""

    Settings = AnimateAnyoneObjective

    def make_model(self) -> AnimateAnyoneNetworks:
        """Return both UNets and the pose guider as one module."""
        check_decoded(self.settings, self._pipeline.scheduler)
        return AnimateAnyoneNetworks(self._pipeline, self.settings, decoded_loss=self.decoded_loss)

    @classmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> AnimateAnyonePipeline:
        """Build a tiny pipeline with random weights; see `mimic.families.animate_anyone.tiny`."""
        return tiny_pipeline(height=height, width=width, seed=seed)

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name the UNet's temporal and spatial layers, and the layers of both UNets that the stage trains."""
        spatial = [f"unet.{name}.*" for name in _SPATIAL]
        temporal = ["unet.*motion_modules.*"]
        filling = self._pipeline.reference_unet.names_that_fill_the_bank()
        return {
            "unet": spatial if self.settings.stage == 1 else [*spatial, *temporal],
            "unet.spatial": spatial,
            "unet.temporal": temporal,
            "unet.attention": ["unet.*.attentions.*.attn1.*", "unet.*.attentions.*.attn2.*"],
            # The stored reference features do not depend on its last layers.
            "reference_unet": [f"reference_unet.{name}" for name in filling],
        }

    @property
    def inert(self) -> Sequence[str]:
        """Name queries, keys and the norm of the attention to the reference's one CLIP token."""
        return [
            f"{unet}.*.attentions.*.transformer_blocks.*.{layer}.*"
            for unet in ("unet", "reference_unet")
            for layer in ("attn2.to_q", "attn2.to_k", "norm2")
        ]

    def noise_levels(self) -> dict[str, Draws]:
        """Return four timesteps, with the reference."""
        steps = fixed_timesteps(self._pipeline.scheduler.config.num_train_timesteps, self.settings.timesteps)
        return {name: {"t": t, "keep": torch.ones(())} for name, t in steps.items()}

    def place_of_level(self, draws: Draws) -> Tensor:
        """Return the timestep."""
        return draws["t"].float()

    def draw_for(self, sample: AnySample, generator: torch.Generator) -> Draws:
        """Draw the timestep, the noise and its offset, and whether the conditions are dropped."""
        num_frames, height, width = sample.num_frames, sample.height, sample.width
        channels, h, w = self._pipeline.latent_shape(height, width)
        num_steps = self._pipeline.scheduler.config.num_train_timesteps
        return {
            "t": draw_timestep(num_steps, self.settings.timesteps, generator),
            "noise": torch.randn(num_frames, channels, h, w, generator=generator),
            "noise_offset": torch.randn(1, channels, 1, 1, generator=generator),
            "keep": (torch.rand((), generator=generator) >= self.settings.drop).float(),
        }

    def check(self, sample: AnySample) -> None:
        """Raise `ConfigError` for amplified regions without masks, and for clips longer than the temporal
        layers' position table."""
        super().check(sample)
        most = self._pipeline.unet.config.motion_max_seq_length
        if self.settings.stage == 2 and sample.num_frames > most:
            raise ConfigError(
                f"data.num_frames is {sample.num_frames}, and the motion modules have {most} positions; use "
                f"{most} at most"
            )

    def embed(self, reference_B3HW: Tensor) -> Tensor:
        """Embed each picture with CLIP, ``B x D``."""
        encoder, extractor = self._pipeline.image_encoder, self._pipeline.feature_extractor
        pictures = (reference_B3HW.float() + 1) / 2
        return torch.cat([embed_picture(encoder, extractor, each)[:, 0] for each in pictures.split(1)])

    def call_arguments(self) -> dict[str, Any]:
        """Turn motion modules off in stage 1, so that samples are generated as trained."""
        return {"use_motion": self.settings.stage == 2}

    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of the four released files, to be written as safetensors."""
        pipe = self._pipeline
        parts = {"unet": pipe.unet, "reference_unet": pipe.reference_unet, "pose_guider": pipe.pose_guider}
        return {f"{name}.safetensors": state for name, state in released_state(parts).items()}
