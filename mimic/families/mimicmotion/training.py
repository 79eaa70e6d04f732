"""What MimicMotion trains and how: its networks, the random draws of a sample, the loss, the ways out.

Conditions are exactly those of the inference pipeline: the reference's latents unscaled, the targets' scaled,
time ids (fps - 1, motion bucket, noise augmentation), and, unless set otherwise, frame 0 the reference with
its own pose. What is dropped is dropped as in the unconditional branch: zero embedding, zero latents, no
pose.

Legend: B batch, F target frames, T frames that the UNet sees (F, or F + 1 with the reference's own), C latent
channels, H x W pixels, h x w latents, D width of the image embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mimic.config.loading import Config
from mimic.data.batch import Batch, Sample
from mimic.families.amplification import amplify, check_regions
from mimic.families.base import AnimationOutput
from mimic.families.mimicmotion import objective
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.task import Draws, Loss, TrainingTask
from mimic.models.image_embedding import embed_images
from mimic.models.vae import encode_images

SINGLE_FILE = "mimicmotion.safetensors"
"""Name of the export in the released checkpoint's key layout."""

PARTS: dict[str, list[str]] = {
    "unet.temporal": ["unet.*.temporal_*", "unet.*.time_mixer.*", "unet.*.time_pos_embed.*"],
    "unet.spatial": ["unet.*.spatial_res_block.*", "unet.*.transformer_blocks.*"],
    "unet.attention": ["unet.*.attn1.*", "unet.*.attn2.*"],
}
"""The UNet's layers by what they look along, time or space, and its attention alone."""


class MimicMotionObjective(Config):
    """The `objective:` of a training YAML. Defaults are the paper's where it tells them."""

    P_mean: float = 0.7
    """Mean of ln(sigma)."""
    P_std: float = Field(1.6, gt=0)
    """Standard deviation of ln(sigma)."""
    sigma_range: tuple[float, float] | None = None
    """Noise levels are clamped to this range; none: as drawn."""
    amplification: Mapping[str, float] = {"hands": 10.0}
    """Region to the factor of its loss (the paper's w_hand); the data has to mask these regions. {}: none."""
    drop_image_embedding: float = Field(0.1, ge=0, le=1)
    """Share of clips that train with a zero image embedding."""
    drop_reference: float = Field(0.1, ge=0, le=1)
    """Share of clips that train with zero reference latents."""
    drop_pose: float = Field(0.1, ge=0, le=1)
    """Share of clips that train without pose."""
    drop_together: bool = True
    """One draw decides all three, so that equal shares leave out everything at once, which is what the
    unconditional branch of guidance is; false: a draw for each."""
    noise_aug_share: float = Field(0.0, ge=0, le=1)
    """Share of clips whose reference gets noise before it is encoded; the others are told of none (0)."""
    noise_aug_P_mean: float = -3.0
    """Mean of the logarithm of that noise's strength, pixels being in [-1, 1]."""
    noise_aug_P_std: float = Field(0.5, ge=0)
    """Its standard deviation."""
    fps: int = Field(7, ge=1)
    """Frames per second that the model is told: the same at inference."""
    motion_bucket_id: int = 127
    """How much motion the model is told of: the same at inference."""
    with_reference_frame: bool = True
    """Frame 0 of the window is the reference with its own pose, as at inference."""
    reference_frame_weight: float = Field(1.0, ge=0)
    """Factor of the loss on that frame, whose picture the model is shown anyway."""


class MimicMotionNetworks(nn.Module):
    """UNet and PoseNet under one roof; a call is a forward pass in training.

    Args:
        unet, pose_net: the pipeline's.
        settings: the objective.
        scaling_factor: of the VAE.
        encode_reference: pixels ``B x 3 x H x W`` in [-1, 1] to unscaled latents ``B x C x h x w``; called
            where noise augmentation asks for it.
    """

    def __init__(
        self,
        unet: nn.Module,
        pose_net: nn.Module,
        settings: MimicMotionObjective,
        *,
        scaling_factor: float,
        encode_reference: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.unet = unet
        self.pose_net = pose_net
        self.settings = settings
        self.scaling_factor = scaling_factor
        self.encode_reference = encode_reference

    def forward(self, batch: Batch, draws: Draws) -> Loss:
        """The loss of a batch that has latents and embeddings, with the stacked draws of its samples."""
        assert batch.latents is not None
        assert batch.reference_latents is not None
        assert batch.image_embedding is not None
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
        return self._loss(x0_hat, x0, sigma, masks)

    def _run_unet(
        self, batch: Batch, draws: Draws, noisy: Tensor, sigma: Tensor, pose_maps: Tensor
    ) -> Tensor:
        assert batch.image_embedding is not None
        dtype = next(self.unet.parameters()).dtype
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

    def _reference_latents(self, batch: Batch, draws: Draws) -> Tensor:
        """``B x C x h x w``; of the noisy picture where a strength was drawn."""
        latents = batch.reference_latents
        assert latents is not None
        noisy = draws["noise_aug"] > 0
        if "reference_noise" not in draws or not bool(noisy.any()):
            return latents
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
        return Loss(total, terms)


class MimicMotionTask(TrainingTask):
    """Training of MimicMotion (arXiv 2406.19680): UNet and PoseNet; VAE and image encoder stay as they are.

    Args:
        pipeline: whose networks are trained, in place.
        settings: the objective.
    """

    Settings: ClassVar[type[Config]] = MimicMotionObjective

    def __init__(self, pipeline: MimicMotionPipeline, settings: MimicMotionObjective) -> None:
        self._pipeline = pipeline
        self.settings = settings
        self.frozen = {"vae": pipeline.vae, "image_encoder": pipeline.image_encoder}
        for module in self.frozen.values():
            module.requires_grad_(False).eval()
        self.model = MimicMotionNetworks(
            pipeline.unet,
            pipeline.pose_net,
            settings,
            scaling_factor=float(pipeline.vae.config.scaling_factor),
            encode_reference=self._encode,
        )

    @classmethod
    def from_pipeline(cls, pipeline: Any, settings: Config) -> MimicMotionTask:
        """A task that trains the UNet and PoseNet of `pipeline`, in place."""
        assert isinstance(settings, MimicMotionObjective)
        return cls(pipeline, settings)

    @classmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> MimicMotionPipeline:
        """Random weights, for twenty steps within seconds; see `mimic.families.mimicmotion.tiny`."""
        return tiny_pipeline(height=height, width=width, seed=seed)

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """See `PARTS`."""
        return PARTS

    def draw(self, sample: Sample, generator: torch.Generator) -> Draws:
        """Noise level, noise, what is dropped, and the reference's noise; see `TrainingTask.draw`.

        Raises:
            ConfigError: the objective amplifies a region that the data does not mask.
        """
        settings = self.settings
        check_regions(settings.amplification, sample.masks)
        num_frames, _, height, width = sample.frames.shape
        side = self._pipeline.pixels_per_latent
        shape = (
            num_frames + settings.with_reference_frame,
            self._pipeline.vae.config.latent_channels,
            height // side,
            width // side,
        )
        sigma = objective.sample_sigma(1, P_mean=settings.P_mean, P_std=settings.P_std, generator=generator)[
            0
        ]
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
            "noise": torch.randn(shape, generator=generator),
            "noise_aug": strength,
            **{f"keep_{name}": keep for name, keep in keeps.items()},
        }
        if settings.noise_aug_share > 0:
            draws["reference_noise"] = torch.randn(sample.reference.shape, generator=generator)
        return draws

    @torch.no_grad()
    def encode(self, batch: Batch) -> Batch:
        """Latents (unscaled, the posterior's mode) and image embeddings that no cache had."""
        changes: dict[str, Tensor] = {}
        if batch.latents is None:
            latents = self._encode(batch.frames.flatten(0, 1))
            changes["latents"] = latents.unflatten(0, batch.frames.shape[:2])
        if batch.reference_latents is None:
            changes["reference_latents"] = self._encode(batch.reference)
        if batch.image_embedding is None:
            changes["image_embedding"] = self._embed(batch.reference)
        return replace(batch, **changes)  # type: ignore[arg-type]

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return encode_images(self._pipeline.vae, pixels)

    def _embed(self, reference: Tensor) -> Tensor:
        pipe = self._pipeline
        return embed_images(pipe.image_encoder, pipe.feature_extractor, (reference + 1) / 2)[:, 0]

    def pipeline(self) -> MimicMotionPipeline:
        """The inference pipeline around the networks that are being trained."""
        return self._pipeline

    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """One file with ``unet.*`` and ``pose_net.*``, as the released checkpoint has them."""
        parts = {"unet": self._pipeline.unet, "pose_net": self._pipeline.pose_net}
        state = {
            f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()
        }
        return {SINGLE_FILE: state}

    @torch.no_grad()
    def generate(self, sample: Sample, *, seed: int) -> Tensor:
        """The reference in the sample's poses, ``F x 3 x H x W`` in [0, 1], by the pipeline's own
        defaults."""
        pipe, settings = self._pipeline, self.settings
        was_training = self.model.training
        self.model.eval()
        try:
            output = pipe(
                ((sample.reference + 1) / 2).clamp(0, 1),
                image_pose=sample.pose_maps,
                fps=settings.fps,
                motion_bucket_id=settings.motion_bucket_id,
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
            )
        finally:
            self.model.train(was_training)
        assert isinstance(output, AnimationOutput)
        assert isinstance(output.frames, Tensor)
        return output.frames[0, 1:]
