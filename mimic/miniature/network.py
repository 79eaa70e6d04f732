"""What is trained of the miniature: UNet, PoseNet and image encoder, and the settings of their training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.config.loading import Config
from mimic.miniature.dancers import DancerSettings
from mimic.miniature.other_vae import pose_strides
from mimic.models.image_embedding import clip_pixels, image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet

# SVD's image encoder sees pictures in CLIP's normalisation.
_FEATURE_EXTRACTOR = image_processor_class()()

BANDS = 6  # heights of the figure, head to feet, whose mean colours the palette task tells


class MiniSettings(Config):
    """Everything that `configs/train/mini.yaml` may set."""

    output_dir: Path = Path("runs/mini")
    vae: Path = Path("runs/mini_vae/final")
    start_from: Path | None = None
    """Where the first weights come from: a checkpoint of another training, or a finished model folder."""
    seed: int = 0
    dancers: DancerSettings = DancerSettings()

    block_out_channels: tuple[int, ...] = (64, 96, 96)
    num_attention_heads: tuple[int, ...] = (2, 3, 3)
    attention_levels: tuple[bool, ...] = (False, True, True)
    cross_attention_dim: int = 96
    norm_num_groups: int = 8
    image_encoder_width: int = 96
    image_encoder_layers: int = 3

    max_steps: int = Field(3500, ge=1)
    batch_size: int = Field(8, ge=1)
    frames: int = Field(4, ge=2)
    """Pictures in a window, the reference included."""
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    """The rate falls linearly to a twentieth over this last share of the steps."""
    P_mean: float = 1.0
    P_std: float = 1.5
    sigma_range: tuple[float, float] = (0.03, 60.0)
    dropout: float = 0.05
    """Share of windows that train without image embedding, reference latents and pose."""
    region_factors: Mapping[str, float] = {"figure": 4.0, "hands": 8.0, "face": 6.0}
    palette_weight: float = 0.05
    """Weight of the image encoder's own task: tell the mean colour of the figure's parts."""
    palette_steps: int = 250
    """Steps at the start in which only that task is trained."""
    buffer_capacity: int = 3000
    new_dancers_per_step: int = 2
    ema_decay: float = 0.999
    save_every: int = Field(100, ge=1)
    num_workers: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: the networks run under autocast, weights stay fp32; pays on processors that compute it (AMX)."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume from the last checkpoint in the folder; never: refuse a folder that has any."""
    max_minutes: float | None = None
    """Stop cleanly, with a checkpoint, after this long (single process only)."""


class Mini(nn.Module):
    """All that is trained, in one place; `palette` only teaches the image encoder and is not shipped."""

    def __init__(
        self, settings: MiniSettings, *, latent_channels: int, latent_size: int, pose_strides: tuple[int, ...]
    ) -> None:
        super().__init__()
        attention = settings.attention_levels
        self.unet = PoseConditionedSVDUNet(
            sample_size=latent_size,
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            down_block_types=tuple(
                "CrossAttnDownBlockSpatioTemporal" if a else "DownBlockSpatioTemporal" for a in attention
            ),
            up_block_types=tuple(
                "CrossAttnUpBlockSpatioTemporal" if a else "UpBlockSpatioTemporal" for a in attention[::-1]
            ),
            block_out_channels=settings.block_out_channels,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=settings.cross_attention_dim,
            num_attention_heads=settings.num_attention_heads,
            num_frames=16,
            norm_num_groups=settings.norm_num_groups,
        )
        self.pose_net = PoseNet(noise_latent_channels=settings.block_out_channels[0], strides=pose_strides)
        self.image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=settings.image_encoder_width,
                intermediate_size=4 * settings.image_encoder_width,
                num_hidden_layers=settings.image_encoder_layers,
                num_attention_heads=settings.image_encoder_width // 32,
                image_size=224,
                patch_size=32,
                projection_dim=settings.cross_attention_dim,
            )
        )
        self.palette = nn.Linear(settings.cross_attention_dim, 2 * 3 * BANDS)
        with torch.no_grad():
            # Small, not zero: the pose must matter from the first step, but not drown the picture.
            nn.init.normal_(self.pose_net.final_proj.weight, std=0.02)
            nn.init.zeros_(self.unet.conv_out.weight)
            nn.init.zeros_(self.unet.conv_out.bias)
            for name, module in self.unet.named_modules():
                if name.endswith("temporal_res_block.conv2"):
                    nn.init.zeros_(module.weight)
                    nn.init.zeros_(module.bias)

    @classmethod
    def for_vae(cls, vae: MiniTemporalVAE, settings: MiniSettings) -> Mini:
        """Networks for the latents of a VAE."""
        downscale = 2 ** (len(vae.config["block_out_channels"]) - 1)
        return cls(
            settings,
            latent_channels=vae.config["latent_channels"],
            latent_size=settings.dancers.height // downscale,
            pose_strides=pose_strides(downscale),
        )

    def embed(self, reference: Tensor) -> Tensor:
        """Image embedding ``B x 1 x D`` of pictures ``B x 3 x H x W`` in [-1, 1]."""
        pixels = clip_pixels((reference + 1) / 2, _FEATURE_EXTRACTOR, self.image_encoder.config.image_size)
        return self.image_encoder(pixels).image_embeds[:, None]
