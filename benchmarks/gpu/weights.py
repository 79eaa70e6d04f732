"""MimicMotion at full size with random weights: on a device, or as files in the released layout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler

from benchmarks.speed.run import Parts
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet

VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "sample_size": 768,
}
SMALL_UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "num_attention_heads": (2, 2),
    "cross_attention_dim": 32,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
}
SMALL_VAE: dict[str, Any] = {**VAE, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}


def svd_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's scheduler."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )


def random_parts(device: torch.device, dtype: torch.dtype, *, is_small: bool = False, seed: int = 0) -> Parts:
    """Build all networks with random weights."""
    torch.manual_seed(seed)
    with torch.device(device):
        unet = PoseConditionedSVDUNet(**(SMALL_UNET if is_small else {}))
        unet = unet.to(device, dtype).eval()
        vae = AutoencoderKLTemporalDecoder(**(SMALL_VAE if is_small else VAE)).to(device, dtype).eval()
        pose_net = PoseNet(noise_latent_channels=unet.config.block_out_channels[0])
        torch.nn.init.normal_(pose_net.final_proj.weight, std=0.02)
        pose_net = pose_net.to(device, dtype).eval()
    return Parts(unet, pose_net, vae, svd_scheduler())


def make_weights(folder: Path, *, is_small: bool = False) -> None:
    """Write a base folder in diffusers' layout and a checkpoint `MimicMotion.pth`, float16, random.

    Args:
        folder: holds `base/` and `MimicMotion.pth` afterwards.
        is_small: small networks in the same layout.
    """
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    start = time.perf_counter()
    parts = random_parts(torch.device("cpu"), torch.float16, is_small=is_small)
    base = folder / "base"
    parts.vae.save_pretrained(base / "vae", variant="fp16")
    parts.unet.save_config(base / "unet")
    parts.scheduler.save_pretrained(base / "scheduler")
    CLIPImageProcessor().save_pretrained(base / "feature_extractor")
    sizes: dict[str, int] = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        if is_small
        else {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
        }
    )
    config = CLIPVisionConfig(
        **sizes,
        projection_dim=parts.unet.config.cross_attention_dim,
        image_size=224,
        patch_size=14,
        hidden_act="gelu",
    )
    CLIPVisionModelWithProjection(config).half().save_pretrained(base / "image_encoder", variant="fp16")
    state = {f"unet.{key}": value for key, value in parts.unet.state_dict().items()}
    state |= {f"pose_net.{key}": value for key, value in parts.pose_net.state_dict().items()}
    torch.save(state, folder / "MimicMotion.pth")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e9:.2f} GB in {time.perf_counter() - start:.0f} s; base/ and MimicMotion.pth")
