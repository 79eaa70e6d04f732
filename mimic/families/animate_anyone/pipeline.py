"""Pipeline of Animate Anyone: animate a reference picture with drawn poses.

Legend: B batch, f frames of a window, C latent channels, H height, W width; h, w of latents; D width of
CLIP's embedding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from mimic.config.sampling import SamplingSettings
from mimic.data.transforms import picture_to_tensor
from mimic.families.animate_anyone.keys import load_released
from mimic.families.animate_anyone.picture import embed_picture, encode_reference
from mimic.families.base import AnimationPipeline
from mimic.families.inputs import Inputs
from mimic.families.plan import Plan
from mimic.families.pose_features import PoseFeatures
from mimic.families.step_pipeline import Branches, Window
from mimic.families.steps import ImageConditions
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
from mimic.models.reference import ReferenceBank, reference_blocks
from mimic.models.reference_unet import ReferenceUNet
from mimic.sampling import guidance

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor
else:  # without the notice that importing it gives where torchvision is missing
    CLIPImageProcessor = image_processor_class()


class AnimateAnyoneSettings(SamplingSettings):
    """Settings of `AnimateAnyonePipeline`."""

    use_motion: bool = True
    """Run the motion modules. If false, they are skipped and each frame is generated independently, as in
    stage 1 of training."""


@dataclass(frozen=True)
class Faults:
    """Faults of the released code that can be reproduced; all are off by default."""

    float16_bank: bool = False
    """Round the reference features to float16, whatever the networks' precision."""
    undivided_overlaps: bool = False
    """Without guidance, sum the predictions of overlapping windows instead of averaging them."""

    @classmethod
    def of(cls, settings: SamplingSettings) -> Faults:
        """Switch all faults on for ``compat: released``, else none."""
        return cls() if settings.compat == "none" else cls(float16_bank=True, undivided_overlaps=True)


@dataclass(frozen=True, kw_only=True)
class Conditions(ImageConditions):
    """Conditions that are constant throughout a run."""

    banks: list[ReferenceBank]
    """Features of the reference network, one bank for each video."""
    pose_features: PoseFeatures | None


class AnimateAnyonePipeline(AnimationPipeline[AnimateAnyoneSettings, Conditions]):
    """Animate Anyone (arXiv 2311.17117) on Stable Diffusion 1.5, as publicly re-implemented.

    `image_pose` shows drawn poses, one for each frame of the video.

    Args:
        vae: `AutoencoderKL`, or one with a temporal decoder.
        scheduler: `DDIMScheduler`, or another one of `mimic.families.schedulers.DISCRETE`.
    """

    # The pose guider is called between UNet calls; outside the sequence it stays where it computes.
    model_cpu_offload_seq = "image_encoder->reference_unet->unet->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012 - diffusers' name and type
    Settings = AnimateAnyoneSettings
    layouts = ("closed", "sliding")
    has_single_token = True
    shows_reference_first = False
    draws_channels_first = True
    released: ClassVar[Mapping[str, Any]] = {
        "height": 784,
        "width": 512,
        "tile_size": 24,
        "tile_overlap": 4,
        "windows": "closed",
        "num_inference_steps": 30,
        "min_guidance_scale": 3.5,
        "max_guidance_scale": 3.5,
        "decode_chunk_size": 8,
        "fusion": "average",
        "noise": "full",
    }

    pose_feature_budget_mb: float = 512
    """Device memory in MB for caching the pose guider's features between steps."""

    def __init__(
        self,
        vae: AutoencoderKL | MiniTemporalVAE,
        image_encoder: CLIPVisionModelWithProjection,
        reference_unet: ReferenceUNet,
        unet: MotionUNet,
        pose_guider: PoseGuider | PaperPoseGuider,
        scheduler: SchedulerMixin,
        feature_extractor: CLIPImageProcessor,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            image_encoder=image_encoder,
            reference_unet=reference_unet,
            unet=unet,
            pose_guider=pose_guider,
            scheduler=scheduler,
            feature_extractor=feature_extractor,
        )

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        motion_module: str | os.PathLike[str] | None = None,
        vae: str | os.PathLike[str] | None = None,
        image_encoder: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> AnimateAnyonePipeline:
        """Load the released weights together with the Stable Diffusion model they were trained from.

        Only the UNet's *config*, the VAE and the image encoder come from `base`; all weights of both UNets
        and of the pose guider come from `checkpoint`, and every key of every file must be used.

        Args:
            base: folder or hub id of Stable Diffusion 1.5 or of sd-image-variations, in diffusers' layout.
            checkpoint: the released folder, or its hub id: ``denoising_unet``, ``reference_unet``,
                ``pose_guider`` and ``motion_module``, each a ``.pth`` or ``.safetensors``.
            motion_module: file of motion modules to use instead of the folder's, for example AnimateDiff's.
            vae: folder or hub id of sd-vae-ft-mse; by default the base's VAE.
            image_encoder: folder or hub id of the CLIP image encoder of sd-image-variations, or of a model
                with it in the subfolder ``image_encoder``; by default the base's.
            dtype: precision of all weights, by default float32.
            torch_dtype: alias of `dtype`.
            variant: of the weight files, for example ``fp16``.
            local_files_only: use only files on disk; never access the hub.

        Raises:
            SourceError: a part is missing (an `OSError`).
            WeightsError: keys are missing, unexpected or of a wrong shape (all are listed), or there are no
                motion modules (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
            motion_module=motion_module,
            vae=vae,
            image_encoder=image_encoder,
            dtype=dtype or torch_dtype or torch.float32,
            variant=variant,
            local_files_only=local_files_only,
        )
        return cls(**parts)

    def check_parts(self) -> None:
        """Raise `ValueError` if the components do not fit each other."""
        unet, reference, guider = self.unet.config, self.reference_unet.config, self.pose_guider.config
        channels = self.vae.config.latent_channels
        for name, count in (("UNet", unet.in_channels), ("reference network", reference.in_channels)):
            if count != channels:
                raise ValueError(
                    f"the {name} takes {count} channels and the VAE's latents have {channels}; use parts of "
                    "the same model."
                )
        if reference_blocks(self.unet) != reference_blocks(self.reference_unet):
            raise ValueError(
                f"the reference network has blocks of {tuple(reference.block_out_channels)} channels, the "
                f"UNet of {tuple(unet.block_out_channels)}; both need the same, because each UNet block "
                "attends to the corresponding block of the reference network."
            )
        if guider.noise_latent_channels != unet.block_out_channels[0]:
            raise ValueError(
                f"the pose guider gives {guider.noise_latent_channels} channels, the UNet's first "
                f"convolution {unet.block_out_channels[0]}; they are added, so build it with "
                f"noise_latent_channels={unet.block_out_channels[0]}."
            )
        if self.pose_guider.downscale != self.pixels_per_latent:
            raise ValueError(
                f"the pose guider makes maps {self.pose_guider.downscale}x smaller, the VAE makes latents "
                f"{self.pixels_per_latent}x smaller; both have to be the same."
            )
        width = self.image_encoder.config.projection_dim
        if width != unet.cross_attention_dim:
            raise ValueError(
                f"the image encoder's embedding is {width} wide, the UNet takes {unet.cross_attention_dim}."
            )

    def check_plan(self, plan: Plan[AnimateAnyoneSettings]) -> None:
        """Raise `ValueError` if a window is longer than the motion modules' position table."""
        longest, most = len(plan.windows[0]), self.unet.config.motion_max_seq_length
        if plan.settings.use_motion and longest > most:
            raise ValueError(
                f"a window has {longest} frames, and the motion modules have {most} positions; use "
                f"tile_size: {most} at most."
            )

    def fusion_weights(self, plan: Plan[AnimateAnyoneSettings]) -> list[Tensor]:
        """Return the fusion weight of each frame of each window."""
        if Faults.of(plan.settings).undivided_overlaps and not guidance.is_needed(plan.guidance_scales):
            return [torch.ones(len(window)) for window in plan.windows]
        return super().fusion_weights(plan)

    def encode(self, inputs: Inputs, plan: Plan[AnimateAnyoneSettings]) -> Conditions:
        """Embed the references and run the reference network on them."""
        device, dtype = self.execution_device, self.unet.dtype
        embeddings = [
            embed_picture(self.image_encoder, self.feature_extractor, picture, device)
            for picture in inputs.pictures
        ]
        image_embeddings = torch.cat(embeddings).to(device, dtype)
        size = (plan.height, plan.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in inputs.pictures])
        # The released code encodes in float16 whatever the VAE's config says.
        upcast = plan.settings.compat != "released"
        latents = encode_reference(self.vae, pictures.to(device), upcast=upcast).to(dtype)
        banks = [self._see(*each) for each in zip(latents.split(1), image_embeddings.split(1))]
        if Faults.of(plan.settings).float16_bank:
            banks = [bank.rounded(torch.float16) for bank in banks]
        if plan.is_optimized:
            banks = [bank.projected_by(self.unet) for bank in banks]
        # Of a single step nothing is used again.
        budget_mb = self.pose_feature_budget_mb if plan.num_inference_steps > 1 else 0
        features = PoseFeatures.of(self.pose_guider, inputs.pose_maps, device=device, budget_mb=budget_mb)
        self.maybe_free_model_hooks()
        return Conditions(image_embeddings=image_embeddings, banks=banks, pose_features=features)

    def _see(self, latents_1Chw: Tensor, embedding_11D: Tensor) -> ReferenceBank:
        """Run the reference network on a clean picture (timestep 0) and return its features."""
        bank, dtype = ReferenceBank(), self.reference_unet.dtype
        self.reference_unet(latents_1Chw.to(dtype), 0, embedding_11D.to(dtype), bank)
        return bank

    def predict_window(
        self,
        conditions: Conditions,
        plan: Plan[AnimateAnyoneSettings],
        window: Window,
        branches: Branches,
    ) -> Tensor:
        """Predict v; the unconditional branch has no reference, only the pose."""
        pose = None
        if conditions.pose_features is not None:
            pose = conditions.pose_features(window.frames, window.video).to(self.unet.dtype)
        unconditional, conditional = (half[window.video] for half in conditions.embeddings())
        return self.unet(
            window.latents.expand(len(branches), -1, -1, -1, -1),
            window.t,
            torch.stack([conditional if each else unconditional for each in branches]),
            pose_features=pose,
            reference=conditions.banks[window.video].read(branches) if any(branches) else None,
            use_motion=plan.settings.use_motion,
            deep_features=self.deep_features(window, branches),
            return_dict=False,
        )[0].float()
