"""Training of MimicMotion: its networks, the random draws of a sample, the loss, the export.

Conditions are exactly those of the inference pipeline: unscaled latents of the reference, scaled latents of
the targets, time ids (fps - 1, motion bucket, noise augmentation), and, by default, the reference with its
own pose as frame 0. Dropped conditions match the unconditional branch: zero embedding, zero latents, no pose.

Legend: B batch, F target frames, T frames that the UNet sees (F, or F + 1 with the reference frame), C latent
channels, H x W pixels, h x w latents, D width of the image embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mimic.data.batch import AnySample, EncodedBatch
from mimic.families.amplification import amplify
from mimic.families.mimicmotion import objective
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.task import (
    DecodedLoss,
    Draws,
    Loss,
    Objective,
    TrainingTask,
    input_dtype,
)
from mimic.models.image_embedding import embed_images
from mimic.models.vae import encode_images

SINGLE_FILE = "mimicmotion.safetensors"
"""File name of the export in the released checkpoint's key layout."""

PARTS: dict[str, list[str]] = {
    "unet.temporal": ["unet.*.temporal_*", "unet.*.time_mixer.*", "unet.*.time_pos_embed.*"],
    "unet.spatial": ["unet.*.spatial_res_block.*", "unet.*.transformer_blocks.*"],
    "unet.attention": ["unet.*.attn1.*", "unet.*.attn2.*"],
}
"""Names for `trainable`: the UNet's temporal layers, its spatial layers, and the attention of either."""


INERT = [f"unet.*transformer_blocks.*.{layer}.*" for layer in ("attn2.to_q", "attn2.to_k", "norm2")]
"""Parameters without effect; see `TrainingTask.inert`."""


class MimicMotionObjective(Objective):
    """The `objective:` of a training YAML for MimicMotion; defaults are the paper's values where
    published."""

    P_mean: float = 0.7
    """Mean of ln(sigma), the logarithm of the noise level."""
    P_std: float = Field(1.6, gt=0)
    """Standard deviation of ln(sigma)."""
    sigma_range: tuple[float, float] | None = None
    """Range [low, high] to which noise levels are clamped; null: not clamped."""
    amplification: Mapping[str, float] = {"hands": 10.0}
    """Factor of the loss inside each region (the paper's w_hand), by region; `data.regions` has to name these
    regions. {}: no amplification."""
    drop_image_embedding: float = Field(0.1, ge=0, le=1)
    """Fraction of clips trained with a zero image embedding."""
    drop_reference: float = Field(0.1, ge=0, le=1)
    """Fraction of clips trained with zero reference latents."""
    drop_pose: float = Field(0.1, ge=0, le=1)
    """Fraction of clips trained without pose."""
    drop_together: bool = True
    """Draw one number for all three fractions, so that equal fractions drop all conditions of a clip at once,
    as in the unconditional branch of guidance; false: one number for each condition."""
    noise_aug_share: float = Field(0.0, ge=0, le=1)
    """Fraction of clips whose reference gets noise before it is encoded; the noise's strength is passed to
    the model."""
    noise_aug_P_mean: float = -3.0
    """Mean of the logarithm of that noise's strength, for pixels in [-1, 1]."""
    noise_aug_P_std: float = Field(0.5, ge=0)
    """Standard deviation of the logarithm of that noise's strength."""
    fps: int = Field(7, ge=1)
    """Frames per second passed to the model, also at inference."""
    motion_bucket_id: int = 127
    """Motion bucket id passed to the model, also at inference."""
    with_reference_frame: bool = True
    """Prepend the reference with its own pose to each clip as frame 0, as at inference."""
    reference_frame_weight: float = Field(1.0, ge=0)
    """Factor of the loss on the reference frame, whose picture is also a condition of the model."""


class MimicMotionNetworks(nn.Module):
    """UNet and PoseNet as one module, whose forward pass returns the training loss.

    Args:
        unet, pose_net: networks of the pipeline, shared, not copied.
        settings: the objective.
        scaling_factor: of the VAE.
        encode_reference: encodes pixels ``B x 3 x H x W`` in [-1, 1] to unscaled latents ``B x C x h x w``;
            only called for references with noise augmentation.
        decoded_loss: that of the task.
    """

    def __init__(
        self,
        unet: nn.Module,
        pose_net: nn.Module,
        settings: MimicMotionObjective,
        *,
        scaling_factor: float,
        encode_reference: Callable[[Tensor], Tensor],
        decoded_loss: DecodedLoss,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.pose_net = pose_net
        self.settings = settings
        self.scaling_factor = scaling_factor
        self.encode_reference = encode_reference
        self.decoded_loss = decoded_loss

    def forward(self, batch: EncodedBatch, draws: Draws) -> Loss:
        """Compute the loss of a batch with latents and embeddings, given the stacked draws of its samples."""
        settings = self.settings
        x0, pose_maps, masks = batch.latents * self.scaling_factor, batch.pose_maps, batch.masks
        if settings.with_reference_frame:
            reference_frame = batch.reference_latents[:, None] * self.scaling_factor
            x0 = torch.cat([reference_frame, x0], dim=1)  # B x T x C x h x w
        else:
            pose_maps = pose_maps[:, 1:]
            masks = {name: mask[:, 1:] for name, mask in masks.items()}
        x0 = x0.float()
        sigma = draws["sigma"].float()
        noisy = x0 + objective.as_latent_shape(sigma) * draws["noise"]
        output = self._run_unet(batch, draws, noisy, sigma, pose_maps)
        x0_hat = objective.denoised(output.float(), noisy, sigma)
        loss = self._loss(x0_hat, x0, sigma, masks)
        if settings.decoded_weight:
            first = x0.shape[1] - batch.latents.shape[1]  # the reference frame is known
            masks = {name: mask[:, first:] for name, mask in masks.items()}
            decoded = self.decoded_loss(x0_hat[:, first:], x0[:, first:], masks, draws)
            loss = loss.with_term("decoded", decoded)
        return loss

    def _run_unet(
        self, batch: EncodedBatch, draws: Draws, noisy: Tensor, sigma: Tensor, pose_maps: Tensor
    ) -> Tensor:
        dtype = input_dtype(self.unet, noisy)
        T = noisy.shape[1]
        reference = self._reference_latents(batch, draws)
        reference = objective.drop(reference, draws["keep_reference"])
        reference = reference[:, None].expand(-1, T, -1, -1, -1)
        embedding = objective.drop(batch.image_embedding, draws["keep_image_embedding"])[:, None]  # B x 1 x D
        pose = self.pose_net(pose_maps.to(dtype))  # BT x width x h x w
        pose = objective.drop(pose, draws["keep_pose"].repeat_interleave(T))
        scaled = objective.c_in(objective.as_latent_shape(sigma)) * noisy
        settings = self.settings
        time_ids = objective.added_time_ids(
            draws["noise_aug"], fps=settings.fps, motion_bucket_id=settings.motion_bucket_id
        )
        return self.unet(
            torch.cat([scaled.to(dtype), reference.to(dtype)], dim=2),
            objective.c_noise(sigma),
            embedding.to(dtype),
            time_ids.to(dtype),
            pose_latents=pose,
            return_dict=False,
        )[0]

    def _reference_latents(self, batch: EncodedBatch, draws: Draws) -> Tensor:
        """Return the reference latents ``B x C x h x w``, those of the noisy picture where noise was
        drawn."""
        latents = batch.reference_latents
        noisy = draws["noise_aug"] > 0
        if "reference_noise" not in draws or not bool(noisy.any()):
            return latents
        if batch.reference is None:
            raise ValueError("noise_aug_share is above 0, which needs the references' pixels in the batch")
        pixels = objective.augment_reference(
            batch.reference[noisy], draws["reference_noise"][noisy], draws["noise_aug"][noisy]
        )
        latents = latents.clone()
        latents[noisy] = self.encode_reference(pixels).to(latents)
        return latents

    def _loss(self, x0_hat: Tensor, x0: Tensor, sigma: Tensor, masks: Mapping[str, Tensor]) -> Loss:
        settings = self.settings
        factor = amplify(masks, settings.amplification)
        if settings.with_reference_frame and settings.reference_frame_weight != 1:
            importance = torch.ones(1, x0.shape[1], 1, 1, 1, device=x0.device)
            importance[:, 0] = settings.reference_frame_weight
            factor = factor * importance
        total = objective.edm_loss(x0_hat, x0, sigma, amplification=factor)
        with torch.no_grad():
            terms = {"plain": objective.edm_loss(x0_hat, x0, sigma)}
            for name in settings.amplification:
                terms[name] = objective.region_loss(x0_hat, x0, sigma, masks[name])
            by_sample = objective.edm_losses(x0_hat, x0, sigma, amplification=factor)
        return Loss(total, terms, by_sample)


class MimicMotionTask(TrainingTask[MimicMotionPipeline, MimicMotionObjective]):
    """Trains MimicMotion (arXiv 2406.19680): UNet and PoseNet."""

    Settings = MimicMotionObjective

    def make_model(self) -> MimicMotionNetworks:
        """Return UNet and PoseNet as one module."""
        pipe = self._pipeline
        return MimicMotionNetworks(
            pipe.unet,
            pipe.pose_net,
            self.settings,
            scaling_factor=float(pipe.vae.config.scaling_factor),
            encode_reference=self._encode,
            decoded_loss=self.decoded_loss,
        )

    @classmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> MimicMotionPipeline:
        """Build a tiny pipeline with random weights; see `mimic.families.mimicmotion.tiny`."""
        return tiny_pipeline(height=height, width=width, seed=seed)

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Return `PARTS`."""
        return PARTS

    @property
    def inert(self) -> Sequence[str]:
        """Name queries, keys and the norm of the attention to the reference's one CLIP token."""
        return INERT

    def noise_levels(self) -> dict[str, Draws]:
        """Return four levels at P_mean and around it, with all conditions and an unchanged reference."""
        settings, one = self.settings, torch.ones(())
        kept = {f"keep_{name}": one for name in ("image_embedding", "reference", "pose")}
        levels = {}
        for deviations in (-1.5, -0.5, 0.5, 1.5):
            sigma = torch.tensor(math.exp(settings.P_mean + deviations * settings.P_std))
            if settings.sigma_range is not None:
                sigma = sigma.clamp(*settings.sigma_range)
            levels[f"sigma_{float(sigma):.3g}"] = {"sigma": sigma, "noise_aug": torch.zeros(()), **kept}
        return levels

    def place_of_level(self, draws: Draws) -> Tensor:
        """Return ln(sigma)."""
        return draws["sigma"].log()

    def draw_for(self, sample: AnySample, generator: torch.Generator) -> Draws:
        """Draw the noise level, the noise, which conditions are dropped, and the reference's noise."""
        settings = self.settings
        num_frames, height, width = sample.num_frames, sample.height, sample.width
        T = num_frames + settings.with_reference_frame
        (sigma,) = objective.sample_sigma(
            1, P_mean=settings.P_mean, P_std=settings.P_std, generator=generator
        )
        if settings.sigma_range is not None:
            sigma = sigma.clamp(*settings.sigma_range)
        shares = {
            "image_embedding": settings.drop_image_embedding,
            "reference": settings.drop_reference,
            "pose": settings.drop_pose,
        }
        keeps = objective.sample_keeps(shares, together=settings.drop_together, generator=generator)
        strength = objective.sample_noise_aug(
            share=settings.noise_aug_share,
            P_mean=settings.noise_aug_P_mean,
            P_std=settings.noise_aug_P_std,
            generator=generator,
        )
        draws = {
            "sigma": sigma,
            "noise": torch.randn(T, *self._pipeline.latent_shape(height, width), generator=generator),
            "noise_aug": strength,
            **{f"keep_{name}": keep for name, keep in keeps.items()},
        }
        if settings.noise_aug_share > 0:
            draws["reference_noise"] = torch.randn(3, height, width, generator=generator)
        return draws

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return encode_images(self._pipeline.vae, pixels)

    def embed(self, reference_B3HW: Tensor) -> Tensor:
        """Embed each picture with CLIP, ``B x D``."""
        pipe = self._pipeline
        return embed_images(pipe.image_encoder, pipe.feature_extractor, (reference_B3HW + 1) / 2)[:, 0]

    @property
    def needs_reference(self) -> bool:
        """Return whether references get noise before they are encoded."""
        return self.settings.noise_aug_share > 0

    def call_arguments(self) -> dict[str, Any]:
        """Return the values of the time ids used in training, for sampling."""
        return {"fps": self.settings.fps, "motion_bucket_id": self.settings.motion_bucket_id}

    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """Return one file with ``unet.*`` and ``pose_net.*``, in the released checkpoint's layout."""
        parts = {"unet": self._pipeline.unet, "pose_net": self._pipeline.pose_net}
        state = {
            f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()
        }
        return {SINGLE_FILE: state}
