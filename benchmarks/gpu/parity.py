"""(b) The recorded runs of the released MimicMotion, in three precisions, eager and compiled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.gpu.record import Part, Setting
from benchmarks.speed.run import Given, Job, Parts, Way, sample
from mimic.data.transforms import picture_to_tensor
from mimic.models.image_embedding import embed_images, image_processor_class
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import decode_frames, encode_images

GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "goldens" / "mimicmotion"
TOLERANCES = {"float32": 2e-4, "float16": 0.06, "bfloat16": 0.5}
"""Largest accepted difference of latents to the recorded ones, which have a size of about 1. That of float16
is the tests'; bfloat16 has an eighth of float16's precision."""


def run(setting: Setting, part: Part) -> None:
    """Run every recorded case in every precision and way."""
    cases = json.loads((GOLDENS / "cases.json").read_text())
    names = sorted(set(cases) - {"_common"})
    ways = {"eager": Way(), "plain": Way(is_optimized=False)}
    if setting.device.type == "cuda":
        # Tensor cores round float32's inputs to 10 bits of mantissa; the recordings are exact ones.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        ways["compiled"] = Way(is_compiled=True)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        parts, encoder = recorded_parts(setting.device, dtype)
        for way_name, way in ways.items():
            for name in names:
                if setting.seconds_left < 20 and not setting.is_small:
                    part.put("stopped", f"before {name}: out of time")
                    return
                _compare(part, name, cases[name], parts, encoder, dtype, way_name, way)


@torch.no_grad()
def _compare(
    part: Part,
    name: str,
    case: dict[str, Any],
    parts: Parts,
    encoder: Any,
    dtype: Any,
    way_name: str,
    way: Way,
) -> None:
    kind = str(dtype).removeprefix("torch.")
    key = f"{name}, {kind}, {way_name}"
    recorded = _recorded(name)
    try:
        job, given = given_of(case, recorded, parts, encoder)
        latents = sample(parts, job, given, way)
        frames = torch.cat(list(decode_frames(parts.vae, latents[0].to(dtype), job.chunk)))
    except Exception as error:  # the other cases still count
        part.put(key, {"failed": f"{type(error).__name__}: {str(error)[:300]}"})
        return
    difference = float((latents.cpu().float() - recorded["final_latents"].float()).abs().max())
    of_frames = float(((frames / 2 + 0.5).clamp(0, 1).cpu() - recorded["frames_pt"][0].float()).abs().max())
    part.put(
        key,
        {
            "largest difference of latents": difference,
            "largest difference of frames": of_frames,
            "tolerance": TOLERANCES[kind],
            "holds": difference <= TOLERANCES[kind],
        },
    )


def recorded_parts(device: torch.device, dtype: torch.dtype) -> tuple[Parts, Any]:
    """Return the recorded miniature: its networks, and (image encoder, feature extractor)."""
    config = GOLDENS / "config"
    state = load_file(GOLDENS / "weights" / "tiny_vae_image_encoder_pose_net.fp16.safetensors")
    state |= torch.load(GOLDENS / "weights" / "MimicMotion_tiny.pth", weights_only=True)
    networks: dict[str, Any] = {
        "unet": PoseConditionedSVDUNet.from_config(PoseConditionedSVDUNet.load_config(config / "unet")),
        "vae": AutoencoderKLTemporalDecoder.from_config(
            AutoencoderKLTemporalDecoder.load_config(config / "vae")
        ),
        "image_encoder": CLIPVisionModelWithProjection(
            CLIPVisionConfig.from_pretrained(config / "image_encoder")
        ),
        "pose_net": PoseNet(noise_latent_channels=32),
    }
    for name, module in networks.items():
        own = {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own)
        module.to(device, dtype).eval()
    scheduler = EulerDiscreteScheduler.from_pretrained(config / "scheduler")
    extractor = image_processor_class().from_pretrained(config / "feature_extractor")
    parts = Parts(networks["unet"], networks["pose_net"], networks["vae"], scheduler)
    return parts, (networks["image_encoder"], extractor)


@torch.no_grad()
def given_of(
    case: dict[str, Any], recorded: dict[str, Tensor], parts: Parts, encoder: Any
) -> tuple[Job, Given]:
    """Return the job and the inputs of a recorded case; noise comes from a CPU generator, as recorded."""
    place = {"device": parts.unet.device, "dtype": parts.unet.dtype}
    image_encoder, extractor = encoder
    job = Job(
        num_frames=case["num_frames"],
        tile_size=6,
        tile_overlap=case["tile_overlap"],
        num_steps=case["num_inference_steps"],
        chunk=case["decode_chunk_size"],
        min_guidance=case["min_guidance_scale"],
        max_guidance=case["max_guidance_scale"],
        time_ids=(case["fps"] - 1, case["motion_bucket_id"], case["noise_aug_strength"]),
    )
    picture = picture_to_tensor(PIL.Image.open(GOLDENS / "ref_image.png").convert("RGB"))
    generator = torch.Generator().manual_seed(case["generator_seed"])
    pixels = picture * 2 - 1
    pixels = pixels + case["noise_aug_strength"] * torch.randn(pixels.shape, generator=generator)
    noise = recorded.get("latents_in")
    if noise is None:
        side = 2 ** (len(parts.vae.config.block_out_channels) - 1)
        shape = (1, 6, parts.vae.config.latent_channels, case["height"] // side, case["width"] // side)
        noise = torch.randn(shape, generator=generator)
    noise = noise.float()[:, torch.arange(job.num_frames) % noise.shape[1]]
    poses = _recorded("pose_pixels")["pose"][: job.num_frames]
    return job, Given(
        embed_images(image_encoder, extractor, picture.to(place["device"])).to(**place),
        encode_images(parts.vae, pixels.to(place["device"])).to(**place),
        poses.to(**place),
        noise.to(place["device"]),
    )


def _recorded(name: str) -> dict[str, Tensor]:
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}
