"""Real components at tiny sizes: the recorded miniature of MimicMotion, and random ones of any shape."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic import MimicMotionPipeline, PoseConditionedSVDUNet, PoseNet
from mimic.models.image_embedding import image_processor_class

needs_group_offloading = pytest.mark.skipif(
    Version(diffusers.__version__) < Version("0.41") and not torch.accelerator.is_available(),
    reason="this version of diffusers moves groups of layers only where there is an accelerator",
)
GOLDENS = Path(__file__).parent / "goldens" / "mimicmotion"
CHECKPOINT = GOLDENS / "weights" / "MimicMotion_tiny.pth"


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a recorded `.npz`."""
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}


def golden_json(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def golden_image(name: str = "ref_image.png") -> PIL.Image.Image:
    return PIL.Image.open(GOLDENS / name).convert("RGB")


def write_base(folder: Path, *, variant: str | None = None) -> Path:
    """The recorded miniature of a Stable Video Diffusion folder, its UNet without weights."""
    shutil.copytree(GOLDENS / "config", folder, dirs_exist_ok=True)
    stored = load_file(GOLDENS / "weights" / "tiny_vae_image_encoder_pose_net.fp16.safetensors")
    middle = f".{variant}" if variant else ""
    for part, stem in (("vae", "diffusion_pytorch_model"), ("image_encoder", "model")):
        own = {key[len(part) + 1 :]: value for key, value in stored.items() if key.startswith(f"{part}.")}
        save_file(own, folder / part / f"{stem}{middle}.safetensors", metadata={"format": "pt"})
    return folder


@functools.cache
def _golden_state() -> dict[str, Tensor]:
    rest = load_file(GOLDENS / "weights" / "tiny_vae_image_encoder_pose_net.fp16.safetensors")
    return {**rest, **torch.load(CHECKPOINT, weights_only=True)}


def golden_pipeline(dtype: torch.dtype = torch.float32) -> MimicMotionPipeline:
    """The recorded miniature with its recorded weights, put together by hand."""
    config = GOLDENS / "config"
    unet = PoseConditionedSVDUNet.from_config(PoseConditionedSVDUNet.load_config(config / "unet"))
    parts: dict[str, Any] = {
        "vae": AutoencoderKLTemporalDecoder.from_config(
            AutoencoderKLTemporalDecoder.load_config(config / "vae")
        ),
        "image_encoder": CLIPVisionModelWithProjection(
            CLIPVisionConfig.from_pretrained(config / "image_encoder")
        ),
        "unet": unet,
        "pose_net": PoseNet(noise_latent_channels=32),
    }
    for name, module in parts.items():
        own = {k[len(name) + 1 :]: v for k, v in _golden_state().items() if k.startswith(f"{name}.")}
        module.load_state_dict(own)
        module.to(dtype).eval()
    return quiet(
        MimicMotionPipeline(
            **parts,
            scheduler=EulerDiscreteScheduler.from_pretrained(config / "scheduler"),
            feature_extractor=image_processor_class().from_pretrained(config / "feature_extractor"),
        )
    )


def random_pipeline(*, seed: int = 0, vae_blocks: int = 3, dtype: torch.dtype = torch.float32) -> Any:
    """A pipeline of random weights, smaller than the recorded one: its VAE makes latents 2^(blocks - 1) x
    smaller."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(32,) * vae_blocks,
            down_block_types=("DownEncoderBlock2D",) * vae_blocks,
            layers_per_block=1,
            sample_size=16,
        )
        unet = PoseConditionedSVDUNet(
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            layers_per_block=1,
            num_attention_heads=(2, 2),
            cross_attention_dim=16,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            norm_num_groups=8,
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=32,
                patch_size=16,
                projection_dim=16,
            )
        )
        strides = (1, *(2,) * (vae_blocks - 1), 1)
        pose_net = PoseNet(32, channels=(3,) + (8,) * vae_blocks, strides=strides)
        torch.nn.init.normal_(pose_net.final_proj.weight)
    for module in (vae, unet, image_encoder, pose_net):
        module.to(dtype).eval()
    return quiet(
        MimicMotionPipeline(
            vae=vae,
            image_encoder=image_encoder,
            unet=unet,
            scheduler=EulerDiscreteScheduler.from_pretrained(GOLDENS / "config" / "scheduler"),
            feature_extractor=image_processor_class()(),
            pose_net=pose_net,
        )
    )


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def random_image(height: int, width: int, seed: int = 0) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def random_poses(num_frames: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Noise in place of drawn poses, ``F x 3 x H x W`` in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_frames, 3, height, width, generator=generator) * 2 - 1
