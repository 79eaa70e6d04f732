"""How much memory does each phase of each shipped training take, and for what?

    python -m benchmarks.training_memory [configs/train/NAME.yaml ...] [key=value ...]

Walks a whole run of each config with `family` at full size: load, encode, step, validate, save, export, and
lists the peak of each phase on one GPU (of configs for CPUs: in main memory), the parts of the step, and the
main memory of saving and export. Peaks are computed, not measured: networks run on fake (meta) tensors, which
have shapes and lifetimes but no content, and every storage that comes and goes is counted, those that
autograd keeps as well as those of the moment; a trained parameter that the loss does not reach ends the walk
as it ends a training. What that does not see: the allocator's fragmentation, work space of cuDNN, and the
CUDA context (1 to 3 GB together). On CPUs, a process has `_INTERPRETER` before it loads a model.
`python -m benchmarks.gpu --parts d` makes the same walk for real.

All is of one process: its share of the batch, frozen networks, gradients, optimiser and average as
`mimic.training` keeps them, each in the precision that it has on its device. Without arguments the results
are written to benchmarks/results and docs/memory.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.counted_memory import AsOnGPU, LiveMemory, WithFlashAttention, counted_offload
from benchmarks.training_networks import pipeline_of
from benchmarks.training_tables import print_and_write
from mimic.config.loading import build, read_yaml
from mimic.data.batch import EncodedBatch, EncodedSample, collate
from mimic.families.task import Draws, TrainingTask
from mimic.models.vae import decode_frames, encode_images
from mimic.training.engine import check_gradients
from mimic.training.policy import Policy, cast_frozen, resolve
from mimic.training.settings import TrainSettings
from mimic.training.setup import fit_data
from mimic.training.tasks import task_around

CONFIGS = Path("configs/train")
_INTERPRETER = 0.6e9
"""Bytes of a process that has imported everything and loads clips: what debug.yaml takes in all on Linux."""
_DECIDING = ("keep", "r", "frame", "noise_aug")
"""Beginnings of the names of draws that decide what is computed; they stay on the CPU."""


def task_of(settings: TrainSettings) -> TrainingTask:
    """Make the task of a training on the meta device, with what is trained chosen."""
    task = task_around(pipeline_of(settings), settings)
    task.model.to("meta")
    return task


def inputs(settings: TrainSettings, task: TrainingTask, clips: int) -> tuple[EncodedBatch, Draws]:
    """Make an encoded batch, and draws that keep all conditions and train on clips where the stage does."""
    data = fit_data(settings.data, task)
    F, H, W = data.num_frames, data.height, data.width
    h, w = H // data.latent_downscale, W // data.latent_downscale
    channels = task.pipeline().vae.config.latent_channels
    encoder = task.frozen.get("image_encoder")
    width = 0 if encoder is None else encoder.config.projection_dim
    with torch.device("meta"):
        sample = EncodedSample(
            latents=torch.empty(F, channels, h, w),
            reference_latents=torch.empty(channels, h, w),
            image_embedding=torch.empty(width),
            pose_maps=torch.empty(F + 1, 3, H, W),
            masks={region: torch.empty(F + 1, 1, h, w) for region in data.regions},
            key="clip",
        )
    batch = collate([sample] * clips)
    assert isinstance(batch, EncodedBatch)
    drawn = task.draw(sample, torch.Generator().manual_seed(0))
    drawn |= {name: torch.ones_like(value) for name, value in drawn.items() if name.startswith("keep")}
    if "r" in drawn:  # MagicAnimate: whether a clip is trained or single pictures
        drawn["r"] = torch.tensor(0.999)
    draws = {name: torch.stack([value] * clips) for name, value in drawn.items()}
    return batch, {name: v if name.startswith(_DECIDING) else v.to("meta") for name, v in draws.items()}


def step(
    model: nn.Module,
    dtype: torch.dtype | None,
    batch: EncodedBatch,
    draws: Draws,
    offload: Callable[[], Any],
) -> None:
    """Run forward and backward as on a GPU."""
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


def precision(settings: TrainSettings) -> torch.dtype | None:
    """Return what the networks compute in; None is float32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.precision)


def compute(settings: TrainSettings, processes: int, *, device: str = "cuda") -> dict[str, dict[str, float]]:
    """Return bytes of one process: ``phases`` on its device, ``parts`` of the step's peak, ``main memory``.

    Args:
        settings: of the training.
        processes: how many train together (DDP).
        device: ``cuda`` or ``cpu``.
    """
    clips = max(1, settings.batch_size // processes // settings.accumulate) * settings.data.references
    task, moved = task_of(settings), [0]
    model = task.model.train()
    exact = sum(_bytes(module) for module in (model, *task.frozen.values()))
    policy = resolve(settings, torch.device(device))
    is_cast = cast_frozen(task, policy, is_divided=False)
    batch, draws = inputs(settings, task, clips)
    trained = [p for p in model.parameters() if p.requires_grad]
    trained_bytes = sum(4 * p.numel() for p in trained)
    frozen_networks = sum(_bytes(module) for module in task.frozen.values())
    fixed = {
        "trained weights": trained_bytes,
        "frozen weights": _bytes(model) - sum(p.nbytes for p in trained) + frozen_networks,
        "optimiser": sum(optimiser_bytes(p, settings) for p in trained),
        "average": trained_bytes if settings.ema_decay is not None else 0,
    }
    stays = sum(fixed.values())
    # DDP's buckets hold the gradients, also between steps; alone, gradients live while a step lasts.
    buckets = trained_bytes if processes > 1 else 0
    sampling = _sampling_bytes(model, settings, batch, draws)
    peak = _step_bytes(model, settings, batch, draws, moved, has_buckets=processes > 1)
    encoding, decoding = _encoding_bytes(settings, task, policy), _decoding_bytes(settings, task)
    # A cache is filled before the trained networks are on the device.
    while_encoding = frozen_networks if settings.memory.cache is not None else stays + buckets
    phases = {
        "load": stays - fixed["optimiser"],
        "encode": encoding + while_encoding,
        "step": stays + buckets + peak,
        "validate": stays + buckets + max(sampling, decoding),
        "save": stays + buckets,
        "export": stays + buckets,
    }
    parts = {**fixed, "gradients": trained_bytes, "activations": peak + buckets - trained_bytes}
    checkpoint = sum(fixed[name] for name in ("trained weights", "optimiser", "average"))
    main = {
        "activations": moved[0],
        # Each process copies its share, and writes while the training continues.
        "save": checkpoint / processes,
        "export": exact if is_cast else 0,
    }
    if device == "cpu":
        phases = {name: value + _INTERPRETER + main.get(name, 0) for name, value in phases.items()}
        # A checkpoint is written while steps are made.
        phases["step"] += main["save"]
    return {"phases": phases, "parts": parts, "main memory": main}


def _step_bytes(
    model: nn.Module,
    settings: TrainSettings,
    batch: EncodedBatch,
    draws: Draws,
    moved: list[int],
    *,
    has_buckets: bool,
) -> int:
    """Return the peak of a step over what stays, and over DDP's buckets: inputs, activations, gradients.

    Raises:
        ConfigError: the loss does not depend on some of the trained parameters, as training would find.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if has_buckets:
        for parameter in trained.values():
            parameter.grad = torch.empty_like(parameter)
    reached: set[str] = set()
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: reached.add(name))
        for name, parameter in trained.items()
    ]
    memory = LiveMemory()
    memory.ignore(model)
    offload = settings.memory.offload_activations
    with memory:
        step(
            model,
            precision(settings),
            batch,
            draws,
            (lambda: counted_offload(model, moved)) if offload else nullcontext,
        )
    for hook in hooks:
        hook.remove()
    for name in trained.keys() - reached:
        trained[name].grad = None
    check_gradients(trained)
    return memory.peak + _input_bytes(batch, draws)


def _sampling_bytes(model: nn.Module, settings: TrainSettings, batch: EncodedBatch, draws: Draws) -> int:
    """Return the peak of predicting one window of one clip, as sampling in validation does."""
    first = replace(batch, **{f.name: _first(getattr(batch, f.name)) for f in fields(batch)})
    one = {name: value[:1] for name, value in draws.items()}
    memory = LiveMemory()
    memory.ignore(model)
    with torch.no_grad(), memory, AsOnGPU(precision(settings)):
        model(first, one)
    return memory.peak + _input_bytes(first, one)


def _first(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: mask[:1] for name, mask in value.items()}
    return None if value is None else value[:1]


def _input_bytes(batch: EncodedBatch, draws: Draws) -> int:
    return batch.num_bytes + sum(value.nbytes for value in draws.values())


def _encoding_bytes(settings: TrainSettings, task: TrainingTask, policy: Policy) -> int:
    """Return the peak of encoding frames together, with the VAE in its precision."""
    together = policy.encoded_together
    pixels = torch.empty(together, 3, settings.data.height, settings.data.width, device="meta")
    vae: Any = task.frozen["vae"]
    return _vae_peak(vae, lambda: encode_images(vae, pixels, batch=together)) + pixels.nbytes


def _decoding_bytes(settings: TrainSettings, task: TrainingTask) -> int:
    """Return the peak of decoding frames together, with the VAE in its precision."""
    chunk = settings.validation.decode_chunk_size or task.pipeline().default("decode_chunk_size")
    shape = task.pipeline().latent_shape(settings.data.height, settings.data.width)
    vae: Any = task.frozen["vae"]
    latents = torch.empty(chunk, *shape, device="meta")
    return _vae_peak(vae, lambda: [None for _ in decode_frames(vae, latents, chunk)])


def _vae_peak(vae: nn.Module, run: Callable[[], Any]) -> int:
    memory = LiveMemory()
    memory.ignore(vae)
    with torch.no_grad(), memory, WithFlashAttention():
        run()
    return memory.peak


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def optimiser_bytes(parameter: Tensor, settings: TrainSettings) -> float:
    """Return the size of both moments: four bytes each, or one and a share of a block's scale (bitsandbytes:
    blocks of 256, small tensors in four bytes)."""
    if settings.optimiser.name == "adamw_8bit" and parameter.numel() >= 4096:
        return 2 * parameter.numel() * (1 + 4 / 256)
    return 8 * parameter.numel()


def processes_of(config: Path) -> int:
    """Return how many processes the YAML's own first lines launch."""
    found = re.search(r"--(?:num_processes|nproc_per_node) (\d+)", config.read_text(encoding="utf-8"))
    return int(found[1]) if found else 1


def memory_of_hardware(config: Path) -> tuple[str, float]:
    """Return the device, ``cuda`` or ``cpu``, and its memory in GB, as the YAML's first lines name them."""
    text = config.read_text(encoding="utf-8")
    if found := re.search(r"^# Hardware: .*?GPUs? (?:of|with) (\d+) GB", text, re.M):
        return "cuda", float(found[1])
    found = re.search(r"^# Hardware: .*?CPU cores?.*?(\d+) GiB", text, re.M)
    if found is None:
        raise ValueError(f"{config} names no hardware in its first lines")
    return "cpu", float(found[1]) * 2**30 / 1e9


def shipped() -> list[Path]:
    """Return the shipped trainings of families."""
    return sorted(p for p in CONFIGS.glob("*.yaml") if "family" in read_yaml(p, []))


def walk(config: Path, overrides: list[str]) -> dict[str, Any]:
    """Return the row of a config, in GB."""
    settings = build(TrainSettings, read_yaml(config, overrides), config)
    device, memory = memory_of_hardware(config)
    found = compute(settings, processes_of(config), device=device)
    rounded = {group: {name: round(v / 1e9, 3) for name, v in own.items()} for group, own in found.items()}
    return {**rounded, "device": device, "memory": round(memory, 3)}


def main(argv: list[str] | None = None) -> None:
    """Print the tables and, for the shipped settings, write them to benchmarks/results and docs/memory.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_memory", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="YAML or key=value")
    options = parser.parse_args(argv)
    overrides = [text for text in options.what if "=" in text]
    configs = [Path(text) for text in options.what if "=" not in text] or shipped()
    rows: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        rows[config.stem] = walk(config, overrides)
        peak = max(rows[config.stem]["phases"].values())
        print(f"{config.stem}: {peak:.1f} GB", file=sys.stderr, flush=True)
    print_and_write(rows, is_written=not options.what)


if __name__ == "__main__":
    main()
