"""How much memory does each phase of each shipped training take, and for what?

    python -m benchmarks.training_memory [configs/train/NAME.yaml ...] [key=value ...]

Walks a whole run of each config of MimicMotion at full size: load, encode, step, validate, save, export, and
lists the peak of each phase on one GPU, the parts of the step, and the main memory of saving and export.
Without a CUDA device peaks are computed, not measured: networks run on fake (meta) tensors, which have shapes
and lifetimes but no content, and every storage that comes and goes is counted, those that autograd keeps as
well as those of the moment. What that does not see: the allocator's fragmentation, work space of cuDNN, and
the CUDA context (1 to 3 GB together). With a CUDA device the step also runs there on random weights, and its
peak as torch reports it stands beside the computed ones.

All is of one process: its share of the batch, frozen networks (VAE and image encoder of Stable Video
Diffusion 1.1), gradients, optimiser and average as `mimic.training` keeps them, each in the precision that it
has on a CUDA device. Without arguments the results are written to benchmarks/results and docs/memory.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
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
from mimic.data.batch import EncodedBatch
from mimic.families.mimicmotion.training import (
    INERT,
    PARTS,
    MimicMotionNetworks,
    MimicMotionObjective,
)
from mimic.files import ASSETS, whole_file, write_json
from mimic.models.memory import save_memory
from mimic.models.offload import offloaded
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.vae import decode_frames, encode_images
from mimic.training import trainable
from mimic.training.lora import add_lora
from mimic.training.policy import cast, resolve
from mimic.training.settings import TrainSettings

RESULT = Path("benchmarks/results/training_memory.json")
CONFIGS = Path("configs/train")
PAGE = Path("docs/memory.md")
BEGIN, END = "<!-- python -m benchmarks.training_memory -->", "<!-- end -->"
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
    trainable.select(model, names, PARTS, inert=INERT)
    if settings.lora is not None:
        add_lora(model, settings.lora, PARTS, seed=0, inert=INERT)
    save_memory(
        model,
        gradient_checkpointing=settings.gradient_checkpointing,
        chunk_frames=settings.memory.chunk_frames,
    )


def inputs(
    settings: TrainSettings, clips: int, channels: int, downscale: int, width: int
) -> tuple[EncodedBatch, dict[str, Tensor]]:
    """A batch with cached latents, and draws."""
    data = settings.data
    F, H, W = data.num_frames, data.height, data.width
    h, w = H // downscale, W // downscale
    objective = build(MimicMotionObjective, settings.objective, "objective")
    batch = EncodedBatch(
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
    batch: EncodedBatch,
    draws: dict[str, Tensor],
    offload: Callable[[], Any],
) -> None:
    """Forward and backward."""
    dtype, device = precision(settings), batch.latents.device.type
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


def compute(settings: TrainSettings, processes: int) -> dict[str, dict[str, float]]:
    """Bytes of one process: ``phases`` on its device, ``parts`` of the step's peak, ``main memory``."""
    clips = max(1, settings.batch_size // processes // settings.accumulate)
    moved = [0]
    with torch.device("meta"):
        with WithoutValues():
            model, channels, downscale = networks_of(settings)
            choose(model, settings)
        model.to("meta").train()
        policy = resolve(settings, torch.device("cuda"))
        exact = 4 * sum(p.numel() for p in model.parameters())
        if policy.casts_networks:
            cast((p for p in model.parameters() if not p.requires_grad and p.ndim > 1), policy.frozen)
        batch, draws = inputs(settings, clips, channels, downscale, model.unet.config["cross_attention_dim"])
        sampling = _peak_without_gradients(model, settings, batch, draws)
        offload = settings.memory.offload_activations
        context = (lambda: counted_offload(model, moved)) if offload else nullcontext
        memory = LiveMemory()
        memory.ignore(model)
        with memory:
            step(model, settings, batch, draws, context)
    trained = [p for p in model.parameters() if p.requires_grad]
    trained_bytes = sum(4 * p.numel() for p in trained)
    is_small = is_mini(settings)
    beside = 0 if is_small else policy.frozen.itemsize * _FROZEN_PARAMETERS
    fixed = {
        "trained weights": trained_bytes,
        "frozen weights": sum(p.nbytes for p in model.parameters() if not p.requires_grad) + beside,
        "optimiser": sum(optimiser_bytes(p, settings) for p in trained),
        "average": trained_bytes if settings.ema_decay is not None else 0,
    }
    stays = sum(fixed.values())
    # DDP's buckets hold the gradients, also between steps.
    kept_gradients = trained_bytes if processes > 1 else 0
    encoding = 0 if is_small else encoding_bytes(settings, policy.encoded_together)
    decoding = 0 if is_small else decoding_bytes(settings)
    is_cached = settings.memory.cache is not None
    phases = {
        "load": stays - fixed["optimiser"],
        # A cache is filled before the trained networks are on the device.
        "encode": encoding + (beside if is_cached else stays + kept_gradients),
        "step": stays + memory.peak,
        "validate": stays + kept_gradients + max(sampling, decoding),
        "save": stays + kept_gradients,
        "export": stays + kept_gradients,
    }
    # Gradients are made during the step: they are in its peak.
    parts = {**fixed, "gradients": trained_bytes, "activations": memory.peak - trained_bytes}
    is_cast = policy.frozen != torch.float32
    checkpoint = sum(fixed[name] for name in ("trained weights", "optimiser", "average"))
    main = {
        "activations": moved[0],
        "save": checkpoint,
        "export": exact + (0 if is_small else 4 * _FROZEN_PARAMETERS) if is_cast else 0,
    }
    return {"phases": phases, "parts": parts, "main memory": main}


def _peak_without_gradients(
    model: MimicMotionNetworks, settings: TrainSettings, batch: EncodedBatch, draws: dict[str, Tensor]
) -> int:
    """The peak of predicting one window of one clip, as sampling in validation does."""
    one = {name: value[:1] for name, value in draws.items()}
    first = replace(
        batch,
        latents=batch.latents[:1],
        reference_latents=batch.reference_latents[:1],
        image_embedding=batch.image_embedding[:1],
        pose_maps=batch.pose_maps[:1],
        masks={name: mask[:1] for name, mask in batch.masks.items()},
        keys=batch.keys[:1],
    )
    memory = LiveMemory()
    memory.ignore(model)
    with torch.no_grad(), memory, AsOnGPU(precision(settings)):
        model(first, one)
    return memory.peak


def is_mini(settings: TrainSettings) -> bool:
    """Whether the frozen networks are small ones, which are not counted."""
    return settings.model == "bundled:mini"


def encoding_bytes(settings: TrainSettings, together: int) -> int:
    """The peak of encoding frames together, with Stable Video Diffusion's VAE in its precision."""
    data = settings.data

    def encode(vae: AutoencoderKLTemporalDecoder) -> None:
        encode_images(vae, torch.empty(together, 3, data.height, data.width), batch=together)

    return _vae_peak(settings, encode)


def decoding_bytes(settings: TrainSettings) -> int:
    """The peak of decoding frames together, with Stable Video Diffusion's VAE in its precision."""
    data, chunk = settings.data, settings.validation.decode_chunk_size or _DECODE_CHUNK

    def decode(vae: AutoencoderKLTemporalDecoder) -> None:
        latents = torch.empty(chunk, 4, data.height // 8, data.width // 8)
        for _ in decode_frames(vae, latents, chunk):
            pass

    return _vae_peak(settings, decode)


def _vae_peak(settings: TrainSettings, run: Callable[[AutoencoderKLTemporalDecoder], None]) -> int:
    with torch.device("meta"), torch.no_grad():
        with WithoutValues():
            vae = AutoencoderKLTemporalDecoder(**_SVD_VAE)
        vae.to("meta")
        cast((*vae.parameters(), *vae.buffers()), resolve(settings, torch.device("cuda")).dtype_of(vae))
        memory = LiveMemory()
        memory.ignore(vae)
        with memory, WithFlashAttention():
            run(vae)
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


def memory_of_hardware(config: Path) -> float | None:
    """GB of one GPU as the YAML's own first lines name it; None for those of CPUs."""
    found = re.search(r"^# Hardware: .*?GPUs? (?:of|with) (\d+) GB", config.read_text(encoding="utf-8"), re.M)
    return float(found[1]) if found else None


def shipped() -> list[Path]:
    """The trainings of MimicMotion that are not for trying out."""
    return sorted(p for p in CONFIGS.glob("mimicmotion_*.yaml"))


def main(argv: list[str] | None = None) -> None:
    """Print the tables and, for the shipped settings, write them to benchmarks/results and docs/memory.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_memory", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="YAML or key=value")
    options = parser.parse_args(argv)
    overrides = [text for text in options.what if "=" in text]
    configs = [Path(text) for text in options.what if "=" not in text] or shipped()
    is_measured = torch.cuda.is_available()
    rows: dict[str, Any] = {}
    for config in configs:
        settings = build(TrainSettings, read_yaml(config, overrides), config)
        processes = processes_of(config)
        found = compute(settings, processes)
        if is_measured:
            found["measured"] = {"step without frozen networks and average": measure(settings, processes)}
        rows[config.stem] = {
            group: {name: round(value / _GB, 3) for name, value in values.items()}
            for group, values in found.items()
        }
        rows[config.stem]["gpu"] = memory_of_hardware(config)
        print(
            f"{config.stem}: {max(rows[config.stem]['phases'].values()):.1f} GB", file=sys.stderr, flush=True
        )
    method = "computed, not measured"
    if is_measured:
        method = f"computed; the step also measured on {torch.cuda.get_device_name()}"
    result = {"method": method, "unit": "GB of one process", "settings": rows}
    print(tables(result))
    if not options.what:
        write_json(RESULT, result)
        write_page(result)


def tables(result: Mapping[str, Any]) -> str:
    """Return phases, parts of the step and main memory of all configs, Markdown."""
    rows = result["settings"]
    parts = [f"{result['unit']}, {result['method']}. The peak of each phase on the device:"]
    titles = {
        "phases": None,
        "parts": "Parts of the step:",
        "main memory": "Main memory of the process that writes, and of activations that are moved there:",
        "measured": "Measured:",
    }
    for group, title in titles.items():
        shown = {name: row[group] for name, row in rows.items() if group in row}
        if not shown:
            continue
        columns = list(next(iter(shown.values())))
        last = [" GPU |"] if group == "phases" else [""]
        lines = [] if title is None else [title, ""]
        lines += [f"| config | {' | '.join(columns)} |{last[0]}"]
        lines += ["| --- |" + " ---: |" * (len(columns) + (group == "phases"))]
        for name, row in shown.items():
            gpu = rows[name]["gpu"]
            end = f" {'–' if gpu is None else f'{gpu:.0f}'} |" if group == "phases" else ""
            lines.append(f"| {name} | " + " | ".join(f"{row[column]:.1f}" for column in columns) + f" |{end}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_page(result: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the tables in place of those in the page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    with whole_file(page) as beside:
        beside.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
