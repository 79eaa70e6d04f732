"""Training of the miniature's UNet, PoseNet and image encoder on synthetic dancers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from mimic.config.loading import ConfigError
from mimic.miniature.dancers import (
    Dancer,
    RollingBuffer,
    as_network_input,
    stream_dancers,
)
from mimic.miniature.loss import window_loss
from mimic.miniature.network import Mini, MiniSettings
from mimic.models.mini import MiniTemporalVAE
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.training.main import Trainer
from mimic.training.state import (
    checkpoints,
    load_optimiser_tensors,
    load_state,
    optimiser_tensors,
    save_state,
)


def train_mini(settings: MiniSettings, *, progress: bool = True) -> Path:
    """Train the miniature, write checkpoints with averaged weights to `output_dir`, and return the last one.

    Under torchrun, each process trains on different dancers, and gradients are averaged (gloo). On a CPU, one
    single-threaded process per core is faster than one process with several threads, because the miniature's
    operations are too small for multithreading.
    """
    rank, num_ranks = _join_group()
    torch.manual_seed(settings.seed)
    if not (settings.vae / "config.json").is_file():
        raise ConfigError(
            f"there is no VAE in {settings.vae}; first run `mimic train --config configs/train/mini_vae.yaml`"
        )
    vae = MiniTemporalVAE.from_pretrained(settings.vae)
    vae.requires_grad_(False).eval()
    model = Mini.for_vae(vae, settings)
    use_fast_temporal_convolutions(model)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step, seconds_before = 0, 0.0
    whole = checkpoints(settings.output_dir)
    if settings.resume == "auto" and whole:
        tensors, facts = load_state(whole[-1])
        model.load_state_dict(tensors["model"])
        average = tensors["average"]
        load_optimiser_tensors(optimiser, tensors["optimiser"])
        step, seconds_before = facts["step"], facts["seconds"]
    elif whole:
        raise ConfigError(f"{settings.output_dir} holds checkpoints; use resume: auto, or another output_dir")
    elif settings.start_from is not None:
        _take_weights(model, settings.start_from)
        average = {name: value.clone() for name, value in model.state_dict().items()}

    rng = np.random.default_rng([settings.seed, step, rank])
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + num_ranks * step + rank)
    buffer = RollingBuffer(settings.buffer_capacity, rng, scaling_factor=float(vae.config["scaling_factor"]))
    stream = stream_dancers(
        settings.dancers,
        first_seed=20_000_000 + 50_000_000 * settings.seed + 10_000_000 * rank + 2 * step,
        num_workers=settings.num_workers,
    )
    feed = _Feeder(stream, vae, buffer)
    feed(64)
    started = time.monotonic()
    bar = tqdm(
        total=settings.max_steps, initial=step, desc="UNet", disable=not progress or rank > 0, mininterval=10
    )
    running: dict[str, float] = {}
    model.train()
    while step < settings.max_steps:
        feed(settings.new_dancers_per_step if len(buffer) >= 400 else 3 * settings.new_dancers_per_step)
        window = buffer.draw(settings.batch_size, settings.frames, timing=settings.dancers.timing)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        is_palette_only = step < settings.palette_steps and settings.start_from is None
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            loss, facts_of_step = window_loss(
                model, window, settings, generator, palette_only=is_palette_only
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if num_ranks > 1:
            _average_gradients(model, num_ranks)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            print(f"step {step}: loss or gradient is not finite; step skipped", flush=True)
            step += 1
            continue
        optimiser.step()
        step += 1
        with torch.no_grad():
            decay = min(settings.ema_decay, (1 + step) / (10 + step))
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(
                    value
                )
        for name, value in facts_of_step.items():
            running[name] = value if name not in running else 0.98 * running[name] + 0.02 * value
        bar.update()
        bar.set_postfix({name: f"{value:.3f}" for name, value in running.items()}, refresh=False)
        seconds = seconds_before + time.monotonic() - started
        out_of_time = (
            settings.max_minutes is not None and time.monotonic() - started > 60 * settings.max_minutes
        )
        if rank > 0:
            continue
        if step % 50 == 0:
            figures = " ".join(f"{name} {value:.4f}" for name, value in running.items())
            print(f"step {step} {figures} norm {norm:.2f} {seconds:.0f} s", flush=True)
        if step % settings.save_every == 0 or step == settings.max_steps or out_of_time:
            save_state(
                settings.output_dir,
                step,
                tensors={
                    "model": model.state_dict(),
                    "average": average,
                    "optimiser": optimiser_tensors(optimiser),
                },
                facts={"seconds": seconds, "running": running, "settings": settings.model_dump(mode="json")},
            )
        if out_of_time:
            break
    if num_ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return checkpoints(settings.output_dir)[-1]


def _take_weights(model: Mini, source: Path) -> None:
    """Load the averaged weights of a checkpoint, or those of a model folder, which has no palette."""
    if not (source / "model_index.json").exists():
        model.load_state_dict(load_state(source)[0]["average"])
        return
    for name in ("unet", "pose_net", "image_encoder"):
        part = getattr(model, name)
        part.load_state_dict(type(part).from_pretrained(source / name).state_dict())


def _join_group() -> tuple[int, int]:
    """Return rank and number of processes: 0 and 1 unless started by torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _average_gradients(model: nn.Module, num_ranks: int) -> None:
    """Average all gradients with one all-reduce. Parameters without a gradient have none on any rank."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    parts = (flat / num_ranks).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts):
        gradient.copy_(part.view_as(gradient))


def _schedule(step: int, settings: MiniSettings) -> float:
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    left = (settings.max_steps - step) / max(1, settings.decay_share * settings.max_steps)
    return warm * max(0.05, min(1.0, left))


class _Feeder:
    """Takes dancers from the stream, encodes their pictures, and adds both to the buffer."""

    def __init__(self, stream: Iterator[Dancer], vae: MiniTemporalVAE, buffer: RollingBuffer) -> None:
        self.stream, self.vae, self.buffer = stream, vae, buffer

    @torch.no_grad()
    def __call__(self, num: int) -> None:
        dancers = [next(self.stream) for _ in range(num)]
        pictures = torch.cat([dancer.pictures for dancer in dancers])
        latents = torch.cat(
            [self.vae.encode(as_network_input(p)).latent_dist.mode() for p in pictures.split(16)]
        )
        for dancer, own in zip(
            dancers, (latents * self.buffer.scaling_factor).half().split([len(d.pictures) for d in dancers])
        ):
            self.buffer.add(dancer, own.clone())


TRAINER = Trainer(MiniSettings, train_mini)
