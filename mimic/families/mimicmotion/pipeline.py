"""Pipeline of MimicMotion: animate a reference picture with drawn poses.

Legend: B batch, f frames of a window, C latent channels, H height, W width; h, w of latents; D width of
CLIP's embedding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from mimic.config.sampling import SVDSettings
from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationPipeline
from mimic.families.inputs import Inputs
from mimic.families.mimicmotion.keys import load_released
from mimic.families.plan import Plan
from mimic.families.pose_features import PoseFeatures
from mimic.families.step_pipeline import Branches, Window
from mimic.families.steps import ImageConditions
from mimic.models.image_embedding import embed_images, image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import encode_images
from mimic.sampling.noise import draw_noise

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor
else:  # without the notice that importing it gives where torchvision is missing
    CLIPImageProcessor = image_processor_class()


class MimicMotionSettings(SVDSettings):
    """Settings of `MimicMotionPipeline`."""

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {"fps": "conditioning_fps"}
    """Other names of settings that the call and stored settings accept."""

    image_only_indicator: bool = False
    """Value of SVD's `image_only_indicator`: if true, the UNet ignores its temporal layers and treats frames
    as unrelated pictures."""


@dataclass(frozen=True, kw_only=True)
class Conditions(ImageConditions):
    """Conditions that are constant throughout a run."""

    reference_latents: Tensor
    """``B x C x h x w``, without the scaling factor"""
    added_time_ids: Tensor
    """``B x 3``: fps - 1, motion bucket, noise augmentation"""
    pose_features: PoseFeatures | None

    def unconditional(self) -> Conditions:
        """Return the conditions of the unconditional branch: zero embedding and latents, no pose, the same
        time ids."""
        return replace(
            self,
            image_embeddings=self.embeddings()[0],
            reference_latents=torch.zeros_like(self.reference_latents),
            pose_features=None,
        )


class MimicMotionPipeline(AnimationPipeline[MimicMotionSettings, Conditions]):
    """MimicMotion (arXiv 2406.19680) on Stable Video Diffusion.

    `image_pose` shows drawn poses, frame 0 the reference's own.

    Args:
        scheduler: `EulerDiscreteScheduler` as in SVD, or another of `mimic.families.schedulers.CONTINUOUS`.
    """

    # PoseNet is called between UNet calls; outside the sequence it stays where it computes (0.4 MB).
    model_cpu_offload_seq = "image_encoder->unet->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012 - diffusers' name and type
    Settings = MimicMotionSettings
    layouts = ("reference",)
    has_single_token = True
    timestep_type = "continuous"
    positional = (
        "tile_size", "tile_overlap", "num_inference_steps", "min_guidance_scale", "max_guidance_scale", "fps",
        "motion_bucket_id", "noise_aug_strength", "image_only_indicator", "decode_chunk_size",
        "num_videos_per_prompt", "generator", "latents", "output_type",
    )  # fmt: skip
    released: ClassVar[Mapping[str, Any]] = {
        "height": 576,
        "width": 1024,
        "tile_size": 16,
        "tile_overlap": 6,
        "windows": "reference",
        "num_inference_steps": 25,
        "min_guidance_scale": 2.0,
        "max_guidance_scale": 2.0,
        "conditioning_fps": 7,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.0,
        "decode_chunk_size": 8,
        "fusion": "released",
        "noise": "window",
    }

    pose_feature_budget_mb: float = 512
    """Device memory in MB for caching PoseNet's features between steps."""

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder | MiniTemporalVAE,
        image_encoder: CLIPVisionModelWithProjection,
        unet: PoseConditionedSVDUNet,
        scheduler: SchedulerMixin,
        feature_extractor: CLIPImageProcessor,
        pose_net: PoseNet,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            image_encoder=image_encoder,
            unet=unet,
            scheduler=scheduler,
            feature_extractor=feature_extractor,
            pose_net=pose_net,
        )

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> MimicMotionPipeline:
        """Load a released MimicMotion checkpoint together with its Stable Video Diffusion base model.

        VAE, image encoder, feature extractor, scheduler and the UNet's *config* come from `base`; all weights
        of UNet and PoseNet come from `checkpoint`, and every key of it must be used.

        Args:
            base: model folder or hub id of Stable Video Diffusion img2vid-xt 1.1.
            checkpoint: the released `.pth`, or the same tensors as `.safetensors`; a path or
                ``hf:owner/repository/file``.
            dtype: precision of all weights, by default float32.
            torch_dtype: alias of `dtype`.
            variant: of the base's weight files, for example ``fp16``; detected if only that variant is there.
            local_files_only: use only files on disk; never access the hub.

        Raises:
            SourceError: the checkpoint or a part of the base is missing (an `OSError`).
            WeightsError: keys are missing, unexpected or of a wrong shape; all are listed (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
            dtype=dtype or torch_dtype or torch.float32,
            variant=variant,
            local_files_only=local_files_only,
        )
        return cls(**parts)

    def check_parts(self) -> None:
        """Raise `ValueError` if the components do not fit each other."""
        unet, vae, pose_net = self.unet.config, self.vae.config, self.pose_net.config
        if "encoder_block_out_channels" in vae:  # of AutoencoderTiny
            raise ValueError(
                "AutoencoderTiny encodes to other latents than those that condition Stable Video Diffusion; "
                "use the VAE of the base model."
            )
        if unet.in_channels != 2 * vae.latent_channels:
            raise ValueError(
                f"the UNet takes {unet.in_channels} channels and the VAE's latents have "
                f"{vae.latent_channels}; the UNet has to take twice as many (noisy latents and the "
                "reference's)."
            )
        if pose_net.noise_latent_channels != unet.block_out_channels[0]:
            raise ValueError(
                f"PoseNet gives {pose_net.noise_latent_channels} channels, the UNet's first convolution "
                f"{unet.block_out_channels[0]}; they are added, so build PoseNet with noise_latent_channels="
                f"{unet.block_out_channels[0]}."
            )
        pose_downscale = math.prod(pose_net.strides)
        if pose_downscale != self.pixels_per_latent:
            raise ValueError(
                f"PoseNet's strides {tuple(pose_net.strides)} make maps {pose_downscale}x smaller, the VAE "
                f"makes latents {self.pixels_per_latent}x smaller; build PoseNet with strides whose product "
                f"is {self.pixels_per_latent}."
            )
        if unet.projection_class_embeddings_input_dim != 3 * unet.addition_time_embed_dim:
            raise ValueError(
                "the UNet's projection_class_embeddings_input_dim is "
                f"{unet.projection_class_embeddings_input_dim}; "
                f"expected 3 x {unet.addition_time_embed_dim} (fps, motion bucket, noise augmentation)."
            )

    def encode(self, inputs: Inputs, plan: Plan[MimicMotionSettings]) -> Conditions:
        """Embed the references with CLIP and encode them with the VAE."""
        device, dtype = self.execution_device, self.unet.dtype
        settings = plan.settings
        embeddings = [
            embed_images(self.image_encoder, self.feature_extractor, picture_to_tensor(picture).to(device))
            for picture in inputs.pictures
        ]
        size = (plan.height, plan.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in inputs.pictures])
        pixels = pictures.to(device) * 2 - 1
        # Drawn even if unused, so that a seed gives the same latents as in the released code.
        noise = draw_noise(tuple(pixels.shape), plan.generator, device=device, dtype=pixels.dtype)
        assert settings.conditioning_fps is not None
        assert settings.noise_aug_strength is not None
        reference_latents = encode_images(self.vae, pixels + settings.noise_aug_strength * noise)
        # SVD was conditioned on fps - 1 during training.
        time_ids = [settings.conditioning_fps - 1, settings.motion_bucket_id, settings.noise_aug_strength]
        self.maybe_free_model_hooks()
        return Conditions(
            image_embeddings=torch.cat(embeddings).to(dtype),
            reference_latents=reference_latents.to(dtype),
            added_time_ids=torch.tensor([time_ids] * len(inputs.pictures), device=device, dtype=dtype),
            pose_features=PoseFeatures.of(
                self.pose_net,
                inputs.pose_maps,
                device=device,
                # Of a single step nothing is used again.
                budget_mb=self.pose_feature_budget_mb if plan.num_inference_steps > 1 else 0,
            ),
        )

    def predict_window(
        self,
        conditions: Conditions,
        plan: Plan[MimicMotionSettings],
        window: Window,
        branches: Branches,
    ) -> Tensor:
        """Predict v; the unconditional branch has neither the reference nor the pose."""
        video, num_frames = window.video, len(window.frames)
        given = [conditions if each else conditions.unconditional() for each in branches]
        references = torch.stack([each.reference_latents[video] for each in given])[:, None]
        poses = None
        if conditions.pose_features is not None and any(branches):
            pose = conditions.pose_features(window.frames, video)[0].to(self.unet.dtype)
            poses = torch.cat([pose if each else torch.zeros_like(pose) for each in branches])
        noisy = window.latents.expand(len(branches), -1, -1, -1, -1)
        return self.unet(
            torch.cat([noisy, references.expand(-1, num_frames, -1, -1, -1)], dim=2),
            window.t,
            encoder_hidden_states=torch.stack([each.image_embeddings[video] for each in given]),
            added_time_ids=conditions.added_time_ids[video : video + 1].expand(len(branches), -1),
            pose_latents=poses,
            image_only_indicator=plan.settings.image_only_indicator,
            deep_features=self.deep_features(window, branches),
            return_dict=False,
        )[0].float()
