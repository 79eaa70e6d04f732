"""Pipeline of MagicAnimate: animate a reference picture with DensePose maps.

Legend: B batch, f frames of a window, C latent channels, H height, W width; h, w of latents; L tokens of the
text, D their width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, ControlNetModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from mimic.config.sampling import ControlSettings, SamplingSettings
from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationPipeline
from mimic.families.inputs import Inputs
from mimic.families.magic_animate.control import ControlResiduals
from mimic.families.magic_animate.keys import load_released
from mimic.families.plan import Plan
from mimic.families.step_pipeline import Branches, Window
from mimic.models.mini import MiniTemporalVAE
from mimic.models.motion_unet import MotionUNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference import ReferenceBank
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.vae import encode_images

RELEASED_NOISE_FRAMES = 16


class MagicAnimateSettings(ControlSettings):
    """Settings of `MagicAnimatePipeline`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt_embeds: Tensor | None = Field(None, exclude=True)
    """Text embedding ``1 x L x D`` of the conditional branch; None: that of the empty prompt."""
    negative_prompt_embeds: Tensor | None = Field(None, exclude=True)
    """Text embedding ``1 x L x D`` of the unconditional branch; None: that of the empty prompt."""


@dataclass(frozen=True)
class Faults:
    """Faults and limits of the released code that can be reproduced; all are off by default."""

    float16_bank: bool = False
    """Round the appearance features to float16, whatever the networks' precision."""
    sixteen_frames: bool = False
    """Draw 16 frames of noise whatever the window size, and accept only clips of a multiple of 16 frames."""

    @classmethod
    def of(cls, settings: SamplingSettings) -> Faults:
        """Switch all faults on for ``compat: released``, else none."""
        return cls() if settings.compat == "none" else cls(float16_bank=True, sixteen_frames=True)


@dataclass
class _Seen:
    """Features of the references from the appearance encoder at one timestep."""

    t: Tensor | None = None
    banks: list[ReferenceBank] = field(default_factory=list)


@dataclass(frozen=True)
class Conditions:
    """Conditions that are constant throughout a run."""

    reference_latents: Tensor
    """``B x C x h x w``, times the scaling factor"""
    text: Tensor
    """``1 x L x D``"""
    unconditional_text: Tensor
    """``1 x L x D``"""
    controls: list[ControlResiduals]
    """ControlNet residuals of each video, also of videos with equal poses, because their latents differ;
    empty without maps."""
    seen: _Seen = field(default_factory=_Seen)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the text embeddings of the unconditional and of the conditional branch."""
        return self.unconditional_text, self.text

    def with_embeddings(self, unconditional: Tensor, conditional: Tensor) -> Conditions:
        """Return conditions with other text embeddings."""
        controls = self.controls
        if not torch.equal(conditional, self.text):
            controls = [control.with_text(conditional) for control in controls]
        return replace(
            self, unconditional_text=unconditional, text=conditional, controls=controls, seen=_Seen()
        )


class MagicAnimatePipeline(AnimationPipeline[MagicAnimateSettings, Conditions]):
    """MagicAnimate (arXiv 2311.16498) on Stable Diffusion 1.5.

    `image_pose` shows DensePose maps, one for each frame of the video.

    Args:
        vae: `AutoencoderKL`, or one with a temporal decoder.
        unet: the denoising UNet, whose group norms in residual blocks span all frames of a window.
        appearance_encoder: the reference network, which ends with a norm.
        controlnet: takes DensePose maps.
        prompt_embedding: embedding of the empty prompt.
        scheduler: `DDIMScheduler`, or another one of `mimic.families.schedulers.DISCRETE`.
    """

    # Appearance encoder and ControlNet run between UNet calls, so they stay on the device when offloading.
    model_cpu_offload_seq = "unet->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012 - diffusers' name and type
    Settings = MagicAnimateSettings
    layouts = ("closed", "sliding")
    driven_by = "densepose"
    shows_reference_first = False
    draws_channels_first = True
    released: ClassVar[Mapping[str, Any]] = {
        "height": 512,
        "width": 512,
        "tile_size": 16,
        "tile_overlap": 4,
        "windows": "closed",
        "num_inference_steps": 25,
        "min_guidance_scale": 7.5,
        "max_guidance_scale": 7.5,
        "control_scale": 1.0,
        "decode_chunk_size": 8,
        "fusion": "average",
        "noise": "window",
    }

    residual_budget_mb: float = 1024
    """Device memory in MB for caching ControlNet residuals of frames that several windows of a step share."""
    map_budget_mb: float = 512
    """Device memory in MB for keeping DensePose maps between steps; used on accelerators alone."""

    def __init__(
        self,
        vae: AutoencoderKL | MiniTemporalVAE,
        unet: MotionUNet,
        appearance_encoder: ReferenceUNet,
        controlnet: ControlNetModel,
        prompt_embedding: PromptEmbedding,
        scheduler: SchedulerMixin,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            appearance_encoder=appearance_encoder,
            controlnet=controlnet,
            prompt_embedding=prompt_embedding,
            scheduler=scheduler,
        )

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        vae: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> MagicAnimatePipeline:
        """Load the released MagicAnimate weights together with the Stable Diffusion model they build on.

        The UNet's spatial layers and, unless `vae` is given, the VAE come from `base`; its text encoder and
        tokenizer embed the empty prompt once and are not kept. Every key of every file must be used.

        Args:
            base: folder or hub id of Stable Diffusion 1.5 in diffusers' layout.
            checkpoint: the released folder: `appearance_encoder/`, `densepose_controlnet/`,
                `temporal_attention/temporal_attention.ckpt`.
            vae: folder or hub id of sd-vae-ft-mse; by default the base's VAE.
            dtype: precision of all weights, by default float32.
            torch_dtype: alias of `dtype`.
            variant: of the weight files, for example ``fp16``.
            local_files_only: use only files on disk; never access the hub.

        Raises:
            SourceError: a part is missing (an `OSError`).
            WeightsError: keys are missing, unexpected or of a wrong shape; all are listed (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
            vae=vae,
            dtype=dtype or torch_dtype or torch.float32,
            variant=variant,
            local_files_only=local_files_only,
        )
        return cls(**parts)

    def check_parts(self) -> None:
        """Raise `ValueError` if the components do not fit each other."""
        channels = {
            "UNet": self.unet.config.in_channels,
            "ControlNet": self.controlnet.config.in_channels,
            "appearance encoder": self.appearance_encoder.config.in_channels,
        }
        for name, count in channels.items():
            if count != self.vae.config.latent_channels:
                raise ValueError(
                    f"the {name} takes {count} channels and the VAE's latents have "
                    f"{self.vae.config.latent_channels}; use parts of the same model."
                )
        widths = {
            "ControlNet": self.controlnet.config.block_out_channels,
            "appearance encoder": self.appearance_encoder.config.block_out_channels,
        }
        for name, width in widths.items():
            if tuple(width) != tuple(self.unet.config.block_out_channels):
                raise ValueError(
                    f"the {name} has blocks of {tuple(width)} channels, the UNet of "
                    f"{tuple(self.unet.config.block_out_channels)}; they have to be the same."
                )
        if self.prompt_embedding.config.width != self.unet.config.cross_attention_dim:
            raise ValueError(
                f"the text embedding is {self.prompt_embedding.config.width} wide, the UNet takes "
                f"{self.unet.config.cross_attention_dim}."
            )
        shrinks = 2 ** (len(self.controlnet.config.conditioning_embedding_out_channels) - 1)
        if shrinks != self.pixels_per_latent:
            raise ValueError(
                f"the ControlNet makes maps {shrinks}x smaller, the VAE makes latents "
                f"{self.pixels_per_latent}x smaller; build it with one conditioning_embedding_out_channels "
                "more than there are halvings."
            )

    def check_plan(self, plan: Plan[MagicAnimateSettings]) -> None:
        """Raise `ValueError` for unsupported window sizes, clip lengths or text embeddings."""
        most = self.unet.config.motion_max_seq_length
        if len(plan.windows[0]) > most:
            raise ValueError(
                f"a window has {len(plan.windows[0])} frames, and the temporal attention has {most} "
                f"positions; use tile_size: {most} at most."
            )
        if Faults.of(plan.settings).sixteen_frames and plan.num_frames % RELEASED_NOISE_FRAMES:
            raise ValueError(
                f"num_frames is {plan.num_frames}; compat: released supports only multiples of "
                f"{RELEASED_NOISE_FRAMES}, as the released code does. Leave compat out, or change num_frames."
            )
        width = self.unet.config.cross_attention_dim
        for name in ("prompt_embeds", "negative_prompt_embeds"):
            given = getattr(plan.settings, name)
            if given is not None and (given.ndim != 3 or len(given) != 1 or given.shape[2] != width):
                raise ValueError(f"{name} is {list(given.shape)}; expected 1 x tokens x {width}.")

    def frames_of_noise(self, plan: Plan[MagicAnimateSettings]) -> int:
        """Return the number of frames of noise to draw."""
        if Faults.of(plan.settings).sixteen_frames:
            return RELEASED_NOISE_FRAMES
        return super().frames_of_noise(plan)

    def encode(self, inputs: Inputs, plan: Plan[MagicAnimateSettings]) -> Conditions:
        """Encode the references and select the text embeddings."""
        device, dtype = self.execution_device, self.unet.dtype
        size = (plan.height, plan.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in inputs.pictures])
        # The released code encodes in float16 whatever the VAE's config says.
        upcast = plan.settings.compat != "released"
        latents = encode_images(self.vae, pictures.to(device) * 2 - 1, upcast=upcast)
        latents = latents * self.vae.config.scaling_factor
        self.maybe_free_model_hooks()
        own = self.prompt_embedding()
        text, negative = (
            (own if given is None else given).to(device, dtype)
            for given in (plan.settings.prompt_embeds, plan.settings.negative_prompt_embeds)
        )
        return Conditions(latents.to(dtype), text, negative, self._controls(inputs, plan, text))

    def _controls(
        self, inputs: Inputs, plan: Plan[MagicAnimateSettings], text: Tensor
    ) -> list[ControlResiduals]:
        if not inputs.pose_maps:
            return []
        assert plan.settings.control_scale is not None
        keeps_maps = plan.num_inference_steps > 1 and text.device.type != "cpu"
        map_budget_mb = self.map_budget_mb if keeps_maps else 0
        return [
            ControlResiduals(
                self.controlnet,
                inputs.pose_maps[video % len(inputs.pose_maps)],
                text,
                windows=plan.windows,
                scale=plan.settings.control_scale,
                # One by one on a CPU, which has nothing to win by more: no rounding depends on the windows.
                frames_at_a_time=plan.tile_size if plan.is_optimized and text.device.type != "cpu" else 1,
                budget_bytes=int(self.residual_budget_mb * 2**20 / len(inputs.pictures)),
                map_budget_bytes=int(map_budget_mb * 2**20 / len(inputs.pictures)),
            )
            for video in range(len(inputs.pictures))
        ]

    def networks_of_a_step(self) -> tuple[nn.Module, ...]:
        """Return the networks that run at every step."""
        return self.unet, self.appearance_encoder, self.controlnet

    def takes_both_branches(self, conditions: Conditions) -> bool:
        """Whether the texts of both branches have the same number of tokens."""
        return conditions.text.shape == conditions.unconditional_text.shape

    def predict_window(
        self,
        conditions: Conditions,
        plan: Plan[MagicAnimateSettings],
        window: Window,
        branches: Branches,
    ) -> Tensor:
        """Predict the noise; the unconditional branch has no reference, only the maps."""
        bank = self._see_references(conditions, plan, window.t)[window.video]
        added: dict[str, Any] = {}
        if conditions.controls:
            of_window = conditions.controls[window.video](window.latents[0], window.t, window.frames)
            residuals, dtype = of_window.repeated(len(branches)), self.unet.dtype  # which walks all layers
            added = {
                "down_block_additional_residuals": [each.to(dtype) for each in residuals.down],
                "mid_block_additional_residual": residuals.mid.to(dtype),
            }
        texts = [conditions.text if each else conditions.unconditional_text for each in branches]
        return self.unet(
            window.latents.expand(len(branches), -1, -1, -1, -1),
            window.t,
            torch.cat(texts),
            reference=bank.read(branches) if any(branches) else None,
            deep_features=self.deep_features(window, branches),
            return_dict=False,
            **added,
        )[0].float()

    def _see_references(
        self, conditions: Conditions, plan: Plan[MagicAnimateSettings], t: Tensor
    ) -> list[ReferenceBank]:
        """Run the appearance encoder on the references at timestep `t`, once for all windows of the step."""
        seen = conditions.seen
        if seen.t is not t:  # compared without waiting for the device
            seen.t, seen.banks = t, []
            for latents in conditions.reference_latents.split(1):
                bank = ReferenceBank("midup")
                dtype = self.appearance_encoder.dtype
                self.appearance_encoder(latents.to(dtype), t, conditions.text.to(dtype), bank)
                is_rounded = Faults.of(plan.settings).float16_bank
                bank = bank.rounded(torch.float16) if is_rounded else bank
                seen.banks.append(bank.projected_by(self.unet) if plan.is_optimized else bank)
        return seen.banks
