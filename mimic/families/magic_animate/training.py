"""Training of MagicAnimate: its networks, the random draws of a sample, the loss, the export.

Conditions are those of the inference pipeline: the reference's latents times the scaling factor, the
appearance encoder at the sample's timestep, the ControlNet on the same noisy latents, the empty prompt.
Samples with a dropped condition match the unconditional branch: no reference.

Legend: B batch, F target frames, n pictures or clips of a pass, f frames of each, C latent channels, H x W
pixels, h x w latents, L tokens of the text, D their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mimic.data.batch import AnySample, EncodedBatch
from mimic.families.amplification import amplify
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
from mimic.families.decoded import CROPS
from mimic.families.magic_animate import objective
from mimic.families.magic_animate.keys import released_temporal
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.magic_animate.tiny import tiny_pipeline
from mimic.families.task import DecodedLoss, Draws, Loss, TrainingTask, input_dtype
from mimic.models.reference import ReferenceBank

TEMPORAL_FILE = "temporal_attention.safetensors"
"""File name of the exported temporal attention; the other networks are saved in the published layout
anyway."""


class MagicAnimateObjective(StagedObjective):
    """The `objective:` of a training YAML for MagicAnimate. Stage 2 trains on clips and single pictures
    together. The paper does not publish values for `tau_0`, `tau_1` and `tau_2`."""

    tau_0: float = Field(0.2, ge=0, le=1)
    """Stage 1: fraction of samples whose target is the reference itself, in its own pose."""
    tau_1: float = Field(0.2, ge=0, le=1)
    """Stage 2: fraction of samples whose target is the reference itself, in its own pose."""
    tau_2: float = Field(0.4, ge=0, le=1)
    """Stage 2: upper bound of the fraction trained on single pictures: `tau_2 - tau_1` of the samples train
    on another picture, `1 - tau_2` on clips. At least `tau_1`."""
    drop_reference: float = Field(0.1, ge=0, le=1)
    """Fraction of samples trained without the reference, for classifier-free guidance."""

    @model_validator(mode="after")
    def _check(self) -> MagicAnimateObjective:
        if self.tau_1 > self.tau_2:
            raise ValueError(f"tau_1 is {self.tau_1}, tau_2 {self.tau_2}; expected tau_1 <= tau_2")
        return self


class MagicAnimateNetworks(nn.Module):
    """UNet, appearance encoder, ControlNet and prompt embedding as one module, whose forward pass returns the
    training loss.

    Args:
        pipeline: provides the networks, which are shared, not copied.
        settings: the objective.
        decoded_loss: that of the task.
    """

    def __init__(
        self,
        pipeline: MagicAnimatePipeline,
        settings: MagicAnimateObjective,
        *,
        decoded_loss: DecodedLoss,
    ) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.appearance_encoder = pipeline.appearance_encoder
        self.controlnet = pipeline.controlnet
        self.prompt_embedding = pipeline.prompt_embedding
        self.settings = settings
        self.decoded_loss = decoded_loss
        self._scheduler = pipeline.scheduler
        self._scaling_factor = float(pipeline.vae.config.scaling_factor)

    def forward(self, batch: EncodedBatch, draws: Draws) -> Loss:
        """Compute the loss of a batch with latents, given the stacked draws of its samples."""
        settings = self.settings
        kinds = objective.choose(
            draws["r"], settings.stage, tau_0=settings.tau_0, tau_1=settings.tau_1, tau_2=settings.tau_2
        )
        total = batch.latents.new_zeros((), dtype=torch.float32)
        by_sample = batch.latents.new_zeros(len(kinds), dtype=torch.float32)
        for is_clip in (False, True):
            chosen = torch.nonzero((kinds == objective.CLIP) == is_clip)[:, 0]
            if len(chosen):
                # Each sample has the same weight, however many frames it has.
                losses = self._losses(batch, draws, kinds, chosen, is_clip=is_clip)
                total = total + losses.sum() / len(kinds)
                by_sample[chosen] = losses.detach()
        shares = {
            "reconstruction": (kinds == objective.RECONSTRUCTION).float().mean(),
            "clip": (kinds == objective.CLIP).float().mean(),
        }
        return Loss(total, {name: share.detach() for name, share in shares.items()}, by_sample)

    def _losses(
        self, batch: EncodedBatch, draws: Draws, kinds: Tensor, chosen: Tensor, *, is_clip: bool
    ) -> Tensor:
        """Compute the loss of each chosen sample."""
        x0, maps, masks = self._targets(batch, draws, kinds, chosen, is_clip=is_clip)
        num_frames = x0.shape[1]
        t, eps = draws["t"][chosen], draws["noise"][chosen][:, :num_frames].float()
        noisy = noised(self._scheduler, x0, eps, t)
        bank = ReferenceBank("midup")
        text = self.prompt_embedding(len(chosen))
        dtype = input_dtype(self.unet, x0)
        reference = batch.reference_latents[chosen] * self._scaling_factor
        self.appearance_encoder(reference.to(dtype), t, text, bank)
        attends = draws["keep_reference"][chosen].bool()
        if not is_clip:  # unrelated pictures: process each independently, including norms over frames
            noisy, maps = noisy.flatten(0, 1)[:, None], maps.flatten(0, 1)[:, None]
            t, text = (each.repeat_interleave(num_frames, dim=0) for each in (t, text))
            attends = attends.repeat_interleave(num_frames)
            bank = ReferenceBank(
                bank.blocks,
                {name: value.repeat_interleave(num_frames, 0) for name, value in bank.features.items()},
            )
        predicted = self._predict(noisy.to(dtype), maps.to(dtype), t, text.to(dtype), bank, attends)
        predicted = predicted.reshape(x0.shape).float()
        target = target_of(self._scheduler, x0, eps, draws["t"][chosen])
        weight = amplify(masks, self.settings.amplification)
        losses = (weight * (predicted - target).square()).mean(dim=(1, 2, 3, 4))
        if not bool(attends.any()):
            losses = losses + zero_of(bank)
        if self.settings.decoded_weight:
            own = {name: draws[name][chosen] for name in ("t", CROPS)}
            x0_hat = denoised(self._scheduler, predicted, noisy.reshape(x0.shape), own["t"])
            own[CROPS] = own[CROPS][:, :num_frames]
            losses = losses + self.decoded_loss(x0_hat, x0, masks, own)
        return losses

    def _targets(
        self, batch: EncodedBatch, draws: Draws, kinds: Tensor, chosen: Tensor, *, is_clip: bool
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return latents ``n x f x C x h x w``, maps ``n x f x 3 x H x W`` in [0, 1] and masks of the
        targets."""
        x0 = torch.cat([batch.reference_latents[:, None], batch.latents], dim=1)[chosen]
        frames = torch.arange(1, x0.shape[1], device=x0.device).expand(len(chosen), -1)
        if self.settings.stage == 2 and not is_clip:
            frames = draws["frame"][chosen][:, None] + 1
        if not is_clip:
            is_itself = (kinds[chosen] == objective.RECONSTRUCTION)[:, None]
            frames = torch.where(is_itself, 0, frames)
        samples = torch.arange(len(chosen), device=x0.device)[:, None]
        maps = batch.pose_maps[chosen][samples, frames] / 2 + 0.5
        masks = {name: batch.masks[name][chosen][samples, frames] for name in self.settings.regions}
        return (x0[samples, frames] * self._scaling_factor).float(), maps, masks

    def _predict(
        self, noisy: Tensor, maps: Tensor, t: Tensor, text: Tensor, bank: ReferenceBank, attends: Tensor
    ) -> Tensor:
        """Run ControlNet and UNet on noisy latents ``n x f x C x h x w``; the prediction has the same
        shape."""
        num_frames = noisy.shape[1]
        down, mid = self.controlnet(
            noisy.flatten(0, 1),
            t.repeat_interleave(num_frames),
            encoder_hidden_states=text.repeat_interleave(num_frames, dim=0),
            controlnet_cond=maps.flatten(0, 1),
            return_dict=False,
        )
        return self.unet(
            noisy,
            t,
            text,
            reference=bank.read(attends.tolist()),
            use_motion=self.settings.stage == 2,
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]


class MagicAnimateTask(TrainingTask[MagicAnimatePipeline, MagicAnimateObjective]):
    """Trains MagicAnimate (arXiv 2311.16498); the VAE is never trained.

    Stage 1 trains ``trainable: [appearance_encoder, controlnet]``, stage 2 ``trainable: [unet.temporal]``; a
    model that does not start from Stable Diffusion also trains ``unet`` and ``prompt_embedding``. Videos
    sampled after stage 1 use the temporal layers as well; newly initialised ones have no effect.
    """

    Settings = MagicAnimateObjective
    frozen_parts = ("vae",)

    def make_model(self) -> MagicAnimateNetworks:
        """Return UNet, appearance encoder, ControlNet and prompt embedding as one module."""
        check_decoded(self.settings, self._pipeline.scheduler)
        return MagicAnimateNetworks(self._pipeline, self.settings, decoded_loss=self.decoded_loss)

    @classmethod
    def tiny_pipeline(cls, *, height: int, width: int, seed: int) -> MagicAnimatePipeline:
        """Build a tiny pipeline with random weights; see `mimic.families.magic_animate.tiny`."""
        return tiny_pipeline(height=height, width=width, seed=seed)

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name the UNet's temporal layers, its spatial layers, its spatial attention alone, and the layers of
        the UNet that the stage trains."""
        spatial = ["unet.*.resnets.*", "unet.*.attentions.*", "unet.conv_*", "unet.time_*"]
        filling = self._pipeline.appearance_encoder.names_that_fill_the_bank()
        return {
            "unet": [*spatial, "unet.*samplers.*"] if self.settings.stage == 1 else ["unet.*"],
            "unet.temporal": ["unet.*motion_modules.*"],
            "unet.spatial": spatial,
            "unet.attention": ["unet.*.attentions.*.attn1.*", "unet.*.attentions.*.attn2.*"],
            # The stored reference features do not depend on layers behind the last attention.
            "appearance_encoder": [f"appearance_encoder.{name}" for name in filling],
        }

    def noise_levels(self) -> dict[str, Draws]:
        """Return four timesteps, with the reference."""
        steps = fixed_timesteps(self._pipeline.scheduler.config.num_train_timesteps, self.settings.timesteps)
        return {name: {"t": t, "keep_reference": torch.ones(())} for name, t in steps.items()}

    def place_of_level(self, draws: Draws) -> Tensor:
        """Return the timestep."""
        return draws["t"].float()

    def draw_for(self, sample: AnySample, generator: torch.Generator) -> Draws:
        """Draw the target, the timestep, the noise, and whether the reference is dropped."""
        settings = self.settings
        num_frames, height, width = sample.num_frames, sample.height, sample.width
        shape = (num_frames, *self._pipeline.latent_shape(height, width))
        num_steps = self._pipeline.scheduler.config.num_train_timesteps
        return {
            "r": torch.rand((), generator=generator),
            "frame": torch.randint(num_frames, (), generator=generator),
            "t": draw_timestep(num_steps, settings.timesteps, generator),
            "noise": torch.randn(shape, generator=generator),
            "keep_reference": (torch.rand((), generator=generator) >= settings.drop_reference).float(),
        }

    def released_files(self) -> dict[str, dict[str, Tensor]]:
        """Return the temporal attention under its published keys; appearance encoder and ControlNet are saved
        under theirs in the model folder anyway."""
        return {TEMPORAL_FILE: released_temporal(self._pipeline.unet)}
