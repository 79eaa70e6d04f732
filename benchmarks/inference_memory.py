"""How much GPU memory does MimicMotion at full size take at inference, in each `memory_mode`?

    python -m benchmarks.inference_memory

Computed, not measured: one pass of the UNet and one chunk of the decoder run on fake (meta) tensors, which
have shapes and lifetimes but no content, and every storage that comes and goes is counted. Weights and
activations are float16, attention never holds the matrix of weights (flash attention). Fragmentation, work
space of cuDNN and the CUDA context (1 to 3 GB together) are not included.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

from benchmarks.counted_memory import LiveMemory, WithFlashAttention, WithoutValues
from benchmarks.training_networks import SVD_VAE
from mimic.files import write_json
from mimic.generation.memory_mode import CHUNK_FRAMES, IS_OFFLOADED
from mimic.models.memory import save_memory
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import decode_frames

RESULT = "benchmarks/results/inference_memory.json"
TILE = 512
"""Of `decode_tile_size`."""
_CLIP_BYTES = 2 * 632_076_800
_GB = 1e9


def denoising_bytes(frames: int, height: int, width: int, mode: str) -> dict[str, float]:
    """Bytes of the UNet's weights and of the activations at the peak of one pass."""
    with torch.device("meta"), torch.no_grad():
        with WithoutValues():
            unet, pose_net = PoseConditionedSVDUNet(sample_size=96), PoseNet(noise_latent_channels=320)
        networks = nn.ModuleList([unet, pose_net]).to("meta").half().eval()
        save_memory(networks, chunk_frames=CHUNK_FRAMES[mode])
        sample = torch.empty(1, frames, 8, height // 8, width // 8, dtype=torch.float16)
        poses = torch.empty(frames, 320, height // 8, width // 8, dtype=torch.float16)
        embedding = torch.empty(1, 1, 1024, dtype=torch.float16)
        memory = LiveMemory()
        memory.ignore(networks)
        with memory, WithFlashAttention():
            unet(sample, torch.tensor(0.0), embedding, torch.empty(1, 3), pose_latents=poses)
    return {"weights": _bytes_of(networks), "activations": memory.peak + sample.nbytes + poses.nbytes}


def decoding_bytes(chunk: int, height: int, width: int, tile: int | None = None) -> dict[str, float]:
    """Bytes of the VAE's weights and of the activations at the peak of decoding one chunk, maybe in tiles."""
    with torch.device("meta"), torch.no_grad():
        with WithoutValues():
            vae = AutoencoderKLTemporalDecoder(**SVD_VAE)
        vae.to("meta").half().eval()
        memory = LiveMemory()
        memory.ignore(vae)
        with memory, WithFlashAttention():
            latents = torch.empty(chunk, 4, height // 8, width // 8)
            for _ in decode_frames(vae, latents, chunk, tile=tile):
                pass
    return {"weights": _bytes_of(vae), "activations": memory.peak}


def rows(height: int, width: int, chunk: int) -> list[dict[str, Any]]:
    """One row for each window and mode, in GB."""
    found = []
    decoding, in_tiles = (decoding_bytes(chunk, height, width, tile) for tile in (None, TILE))
    for frames in (16, 72):
        for mode in CHUNK_FRAMES:
            denoising = denoising_bytes(frames, height, width, mode)
            others = 0 if IS_OFFLOADED[mode] else _CLIP_BYTES
            peaks = {
                "denoising": denoising["weights"] + denoising["activations"],
                "decoding": decoding["weights"] + decoding["activations"],
                f"decoding in tiles of {TILE}": in_tiles["weights"] + in_tiles["activations"],
            }
            if not IS_OFFLOADED[mode]:
                peaks["denoising"] += others + decoding["weights"]
                for name in [*peaks][1:]:
                    peaks[name] += others + denoising["weights"]
            found.append(
                {"window": frames, "memory_mode": mode}
                | {name: round(value / _GB, 2) for name, value in peaks.items()}
                | {"denoising activations": round(denoising["activations"] / _GB, 2)}
            )
            print(found[-1], flush=True)
    return found


def _bytes_of(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def main(argv: list[str] | None = None) -> None:
    """Print one line for each window and mode and write all to `benchmarks/results`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference_memory", description=__doc__)
    parser.add_argument("--height", type=int, default=576)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=8, help="frames decoded together")
    options = parser.parse_args(argv)
    found = rows(options.height, options.width, options.chunk)
    content = {"method": "computed, not measured", "unit": "GB", "torch": torch.__version__, **vars(options)}
    write_json(RESULT, content | {"rows": found})


if __name__ == "__main__":
    main()
