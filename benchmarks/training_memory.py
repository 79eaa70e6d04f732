"""How much memory does a step of each shipped training take, and for what?

    python -m benchmarks.training_memory [configs/train/NAME.yaml ...] [key=value ...]

Without a CUDA device the peak is computed, not measured: a training step of the full-size model runs on fake
(meta) tensors, which have shapes and lifetimes but no content, and every storage that comes and goes is
counted, those that autograd keeps as well as those of the moment.
What that does not see: the allocator's fragmentation, work space of cuDNN, and the CUDA context (1 to 3 GB
together). With a CUDA device the same step runs there on random weights and the peak is what torch reports;
the computed figures stand beside it.

The step is that of one process: its share of the batch, frozen networks (VAE and image encoder of Stable
Video Diffusion 1.1) on the device, gradients, optimiser and average as `mimic.training` keeps them, each in
the precision that it has on a CUDA device. The last column is the peak of decoding in validation, with all
that stays on the device then.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from benchmarks.counted_memory import (
    AsOnGPU,
    LiveMemory,
    WithFlashAttention,
    WithoutValues,
    counted_offload,
)
from mimic.config.loading import build, read_yaml
from mimic.data.batch import Batch
from mimic.families.mimicmotion.training import PARTS, MimicMotionNetworks, MimicMotionObjective
from mimic.files import ASSETS, write_json
from mimic.models.memory import offloaded, save_memory
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import decode_frames
from mimic.training import trainable
from mimic.training.lora import add_lora
from mimic.training.policy import cast, resolve
from mimic.training.settings import TrainSettings

RESULT = Path("benchmarks/results/training_memory.json")
CONFIGS = Path("configs/train")
_FROZEN_PARAMETERS = 97_742_847 + 632_076_800  # VAE, image encoder
_SVD_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_DECODE_CHUNK = 8  # frames that the released code decodes together
_GB = 1e9


def networks_of(settings: TrainSettings) -> tuple[MimicMotionNetworks, int, int]:
    """UNet and PoseNet as the settings' model has them, latent channels, and the VAE's downscale."""
    if settings.model == "bundled:mini":
        folder = ASSETS / "mini"
        unet = PoseConditionedSVDUNet.from_config(PoseConditionedSVDUNet.load_config(folder / "unet"))
        pose_net = PoseNet.from_config(PoseNet.load_config(folder / "pose_net"))
        channels, downscale = 8, 4
    else:
        unet = PoseConditionedSVDUNet(sample_size=96)
        pose_net = PoseNet(noise_latent_channels=320)
        channels, downscale = 4, 8
    objective = build(MimicMotionObjective, settings.objective, "objective")
    model = MimicMotionNetworks(
        unet, pose_net, objective, scaling_factor=1.0, encode_reference=lambda pixels: pixels
    )
    return model, channels, downscale


def choose(model: nn.Module, settings: TrainSettings) -> None:
    """What trains, and the ways of saving memory, as `mimic.training.setup` does it."""
    names = settings.trainable or (() if settings.lora else ("unet", "pose_net"))
    trainable.select(model, names, PARTS)
    if settings.lora is not None:
        add_lora(model, settings.lora, PARTS, seed=0)
    save_memory(
        model,
        gradient_checkpointing=settings.gradient_checkpointing,
        chunk_frames=settings.memory.chunk_frames,
    )


def inputs(
    settings: TrainSettings, clips: int, channels: int, downscale: int, width: int
) -> tuple[Batch, dict[str, Tensor]]:
    """A batch with cached latents, and draws."""
    data = settings.data
    F, H, W = data.num_frames, data.height, data.width
    h, w = H // downscale, W // downscale
    objective = build(MimicMotionObjective, settings.objective, "objective")
    batch = Batch(
        frames=torch.empty(clips, F, 3, H, W),
        reference=torch.empty(clips, 3, H, W),
        pose_maps=torch.empty(clips, F + 1, 3, H, W),
        masks={region: torch.empty(clips, F + 1, 1, h, w) for region in objective.amplification},
        keys=("",) * clips,
        latents=torch.empty(clips, F, channels, h, w),
        reference_latents=torch.empty(clips, channels, h, w),
        image_embedding=torch.empty(clips, width),
    )
    ones = torch.ones(clips)
    draws = {f"keep_{name}": ones for name in ("image_embedding", "reference", "pose")}
    frames = F + objective.with_reference_frame
    draws |= {"sigma": ones, "noise_aug": ones, "noise": torch.empty(clips, frames, channels, h, w)}
    return batch, draws


def step(
    model: MimicMotionNetworks,
    settings: TrainSettings,
    batch: Batch,
    draws: dict[str, Tensor],
    offload: Callable[[], Any],
) -> None:
    """Forward and backward."""
    dtype, device = precision(settings), batch.frames.device.type
    if device == "meta":
        with AsOnGPU(dtype) as as_on_gpu:
            with offload():
                loss = model(batch, draws)
            as_on_gpu.end_forward()
            # Not `loss.total.backward()`, which leaves the mode, also for what it makes anew.
            torch.autograd.Variable._execution_engine.run_backward(
                (loss.total,),
                (torch.ones_like(loss.total),),
                False,
                False,
                (),
                allow_unreachable=True,
                accumulate_grad=True,
            )
        return
    with torch.autocast(device, dtype, enabled=dtype is not None), offload():
        loss = model(batch, draws)
    loss.total.backward()


def precision(settings: TrainSettings) -> torch.dtype | None:
    """What the networks compute in; None is float32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.precision)


def compute(settings: TrainSettings, processes: int) -> dict[str, float]:
    """Bytes of one process by what they are for; see the file's docstring."""
    clips = max(1, settings.batch_size // processes // settings.accumulate)
    moved = [0]
    with torch.device("meta"):
        with WithoutValues():
            model, channels, downscale = networks_of(settings)
            choose(model, settings)
        model.to("meta").train()
        policy = resolve(settings, torch.device("cuda"))
        if policy.casts_networks:
            cast((p for p in model.parameters() if not p.requires_grad and p.ndim > 1), policy.frozen)
        batch, draws = inputs(settings, clips, channels, downscale, model.unet.config["cross_attention_dim"])
        offload = settings.memory.offload_activations
        context = (lambda: counted_offload(model, moved)) if offload else nullcontext
        memory = LiveMemory()
        memory.ignore(model)
        with memory:
            step(model, settings, batch, draws, context)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    trained_bytes = sum(4 * p.numel() for p in trained)
    fixed = {
        "trained weights": trained_bytes,
        "frozen weights": frozen + (0 if is_mini(settings) else policy.frozen.itemsize * _FROZEN_PARAMETERS),
        "optimiser": sum(optimiser_bytes(p, settings) for p in trained),
        "average": trained_bytes if settings.ema_decay is not None else 0,
        "DDP's buckets": trained_bytes if processes > 1 else 0,
    }
    # Gradients are made during the step: they are in the peak.
    return {
        **fixed,
        "gradients": trained_bytes,
        "activations at the peak": memory.peak - trained_bytes,
        "total": sum(fixed.values()) + memory.peak,
        "moved to main memory": moved[0],
        "in validation": sum(fixed.values()) + (0 if is_mini(settings) else decoding_bytes(settings)),
    }


def is_mini(settings: TrainSettings) -> bool:
    """Whether the frozen networks are small ones, which are not counted."""
    return settings.model == "bundled:mini"


def decoding_bytes(settings: TrainSettings) -> int:
    """The peak of decoding frames together, with Stable Video Diffusion's VAE in its precision."""
    data, chunk = settings.data, settings.validation.decode_chunk_size or _DECODE_CHUNK
    with torch.device("meta"), torch.no_grad():
        with WithoutValues():
            vae = AutoencoderKLTemporalDecoder(**_SVD_VAE)
        vae.to("meta")
        dtype = resolve(settings, torch.device("cuda")).dtype_of(vae)
        cast((*vae.parameters(), *vae.buffers()), dtype)
        latents = torch.empty(chunk, 4, data.height // 8, data.width // 8)
        memory = LiveMemory()
        memory.ignore(vae)
        with memory, WithFlashAttention():
            for _ in decode_frames(vae, latents, chunk):
                pass
    return memory.peak


def optimiser_bytes(parameter: Tensor, settings: TrainSettings) -> float:
    """Two moments: four bytes each, or one and a share of a block's scale (bitsandbytes: blocks of 256,
    small tensors in four bytes)."""
    if settings.optimiser.name == "adamw_8bit" and parameter.numel() >= 4096:
        return 2 * parameter.numel() * (1 + 4 / 256)
    return 8 * parameter.numel()


def measure(settings: TrainSettings, processes: int) -> float:
    """Peak that torch reports for a step with optimiser on the CUDA device, in bytes (EMA and frozen networks
    are not there: add them from the computed figures)."""
    device = torch.device("cuda")
    clips = max(1, settings.batch_size // processes // settings.accumulate)
    with device:
        model, channels, downscale = networks_of(settings)
    choose(model, settings)
    model.to(device).train()
    batch, draws = inputs(settings, clips, channels, downscale, model.unet.config["cross_attention_dim"])
    batch, draws = batch.to(device), {name: value.to(device) for name, value in draws.items()}
    from mimic.training.engine import make_optimiser

    optimiser = make_optimiser({n: p for n, p in model.named_parameters() if p.requires_grad}, settings)
    context = (lambda: offloaded(model)) if settings.memory.offload_activations else nullcontext
    for _ in range(2):
        step(model, settings, batch, draws, context)
        optimiser.step()
        optimiser.zero_grad()
    peak = float(torch.cuda.max_memory_allocated())
    del optimiser
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def processes_of(config: Path) -> int:
    """How many processes the YAML's own first lines launch."""
    found = re.search(r"--num_processes (\d+)", config.read_text(encoding="utf-8"))
    return int(found[1]) if found else 1


def shipped() -> list[Path]:
    """The trainings of MimicMotion that are not for trying out."""
    return sorted(p for p in CONFIGS.glob("mimicmotion_*.yaml"))


def main(argv: list[str] | None = None) -> None:
    """Print the table and, for the shipped settings, write it to benchmarks/results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_memory", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="YAML or key=value")
    options = parser.parse_args(argv)
    overrides = [text for text in options.what if "=" in text]
    configs = [Path(text) for text in options.what if "=" not in text] or shipped()
    is_measured = torch.cuda.is_available()
    rows: dict[str, dict[str, float]] = {}
    for config in configs:
        settings = build(TrainSettings, read_yaml(config, overrides), config)
        processes = processes_of(config)
        figures = compute(settings, processes)
        if is_measured:
            figures["measured without frozen networks and average"] = measure(settings, processes)
        rows[config.stem] = {name: round(value / _GB, 3) for name, value in figures.items()}
        print(f"{config.stem}: {rows[config.stem]['total']:.1f} GB", file=sys.stderr, flush=True)
    method = "measured on " + torch.cuda.get_device_name() if is_measured else "computed, not measured"
    print(table(rows, method))
    if not options.what:
        write_json(RESULT, {"method": method, "unit": "GB of one process", "settings": rows})


def table(rows: dict[str, dict[str, float]], method: str) -> str:
    """Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [
        f"GB of one process, {method}.",
        "",
        "| config | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.1f}" for column in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
