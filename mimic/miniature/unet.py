"""Training of the miniature's UNet, PoseNet and image encoder on synthetic dancers."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.config.loading import Config, ConfigError
from mimic.families.amplification import amplify
from mimic.families.mimicmotion import objective
from mimic.miniature.dancers import (
    Dancer,
    DancerSettings,
    RollingBuffer,
    Window,
    as_network_input,
    stream_dancers,
)
from mimic.models.image_embedding import clip_pixels, image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.training.main import Trainer
from mimic.training.state import (
    checkpoints,
    load_optimiser_tensors,
    load_state,
    optimiser_tensors,
    save_state,
)

# SVD's image encoder takes pictures in CLIP's normalisation.
_FEATURE_EXTRACTOR = image_processor_class()()


class MiniSettings(Config):
    """Settings of `configs/train/mini.yaml`."""

    output_dir: Path = Path("runs/mini")
    vae: Path = Path("runs/mini_vae/final")
    start_from: Path | None = None
    """Initial weights: a checkpoint of another training, or a model folder; null: random weights."""
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
    """Number of pictures in a window, including the reference."""
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Fraction of the steps, at the end, over which the learning rate falls linearly to a twentieth."""
    P_mean: float = 1.0
    P_std: float = 1.5
    sigma_range: tuple[float, float] = (0.03, 60.0)
    dropout: float = 0.05
    """Fraction of windows trained without image embedding, reference latents and pose, for guidance."""
    region_factors: Mapping[str, float] = {"figure": 4.0, "hands": 8.0, "face": 6.0}
    palette_weight: float = 0.05
    """Weight of the image encoder's auxiliary task: predict mean colours of the figure at several heights."""
    palette_steps: int = 250
    """Number of steps at the start in which only the auxiliary task is trained."""
    buffer_capacity: int = 3000
    new_dancers_per_step: int = 2
    ema_decay: float = 0.999
    save_every: int = Field(100, ge=1)
    num_workers: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the networks under autocast with fp32 weights; faster on processors with AMX."""
    resume: Literal["auto", "never"] = "auto"
    """`auto` resumes from the last checkpoint in `output_dir`; `never` requires a folder without any."""
    max_minutes: float | None = None
    """Stop with a checkpoint after this time in minutes (single process only); null: no limit."""


class Mini(nn.Module):
    """All trained networks; `palette` is only used to train the image encoder and is not bundled."""

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
        self.palette = nn.Linear(settings.cross_attention_dim, 2 * 3 * _BANDS)
        with torch.no_grad():
            # Small but not zero, so that the pose has an effect from the first step without dominating.
            nn.init.normal_(self.pose_net.final_proj.weight, std=0.02)
            nn.init.zeros_(self.unet.conv_out.weight)
            nn.init.zeros_(self.unet.conv_out.bias)
            for name, module in self.unet.named_modules():
                if name.endswith("temporal_res_block.conv2"):
                    nn.init.zeros_(module.weight)
                    nn.init.zeros_(module.bias)

    def embed(self, reference: Tensor) -> Tensor:
        """Embed pictures ``B x 3 x H x W`` in [-1, 1] to ``B x 1 x D``."""
        pixels = clip_pixels((reference + 1) / 2, _FEATURE_EXTRACTOR, self.image_encoder.config.image_size)
        return self.image_encoder(pixels).image_embeds[:, None]


_BANDS = 6  # bands of the figure's height, head to feet, whose mean colours the auxiliary task predicts


def palette_of(window: Window) -> tuple[Tensor, Tensor]:
    """Compute mean colours of the reference in `_BANDS` bands of the figure's height.

    Returns:
        ``B x bands x 6`` (mean RGB, then RGB of the background at that height), and ``B x bands x 1``,
        whether each band is visible.
    """
    picture = functional.interpolate(window.reference, size=window.regions.shape[-2:], mode="area")
    figure = (window.regions[:, 0, 0] > 0.95).float()  # B x h x w
    values, present = [], []
    for mask, colours in zip(figure, picture):
        rows = mask.sum(1).nonzero()[:, 0]
        top, bottom = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, mask.shape[0])
        edges = np.linspace(top, bottom, _BANDS + 1).round().astype(int)
        for low, high in itertools.pairwise(edges):
            inside = mask[low:high]
            outside = 1 - inside
            count = inside.sum()
            mean = (colours[:, low:high] * inside).sum((1, 2)) / count.clamp(min=1)
            behind = (colours[:, low:high] * outside).sum((1, 2)) / outside.sum().clamp(min=1)
            values.append(torch.cat([mean, behind]))
            present.append((count > 0).float())
    shape = (len(figure), _BANDS)
    return torch.stack(values).reshape(*shape, 6), torch.stack(present).reshape(*shape, 1)


def pose_strides(downscale: int) -> tuple[int, ...]:
    """Return PoseNet's strides for latents `downscale` times smaller: the released strides, shortened."""
    num_halvings = downscale.bit_length() - 1
    return tuple(2 if layer in (1, 3, 5)[:num_halvings] else 1 for layer in range(8))


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
            f"there is no VAE in {settings.vae}; first run `python train.py --config "
            "configs/train/mini_vae.yaml`"
        )
    vae = MiniTemporalVAE.from_pretrained(settings.vae)
    vae.requires_grad_(False).eval()
    downscale = 2 ** (len(vae.config["block_out_channels"]) - 1)
    model = Mini(
        settings,
        latent_channels=vae.config["latent_channels"],
        latent_size=settings.dancers.height // downscale,
        pose_strides=pose_strides(downscale),
    )
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


def window_loss(
    model: Mini, window: Window, settings: MiniSettings, generator: torch.Generator, *, palette_only: bool
) -> tuple[Tensor, dict[str, float]]:
    """Compute the loss of a batch of windows, and its parts for the log by name.

    With `palette_only`, compute only the loss of the image encoder's auxiliary task.
    """
    B, F = window.latents.shape[:2]
    embedding = model.embed(window.reference)
    colours, present = palette_of(window)
    palette = (present * (model.palette(embedding[:, 0]).reshape(colours.shape) - colours).square()).mean()
    if palette_only:
        return palette, {"palette": palette.item()}

    sigma = objective.sample_sigma(B, P_mean=settings.P_mean, P_std=settings.P_std, generator=generator)
    sigma = sigma.clamp(*settings.sigma_range)
    x0 = window.latents
    noise = torch.randn(x0.shape, generator=generator)
    noisy = x0 + objective.as_latent_shape(sigma) * noise

    kept = (torch.rand(B, generator=generator) >= settings.dropout).float()
    reference = (x0[:, :1] / window.scaling_factor * kept[:, None, None, None, None]).expand_as(x0)
    embedding = embedding * kept[:, None, None]
    pose = model.pose_net(window.maps) * kept.repeat_interleave(F)[:, None, None, None]

    ids = torch.tensor([[6.0, 127.0, 0.0]]).expand(B, 3)
    scaled = objective.c_in(objective.as_latent_shape(sigma)) * noisy
    output = model.unet(
        torch.cat([scaled, reference], dim=2), objective.c_noise(sigma), embedding, ids, pose_latents=pose
    ).sample
    x0_hat = objective.denoised(output, noisy, sigma)
    masks = {
        name: window.regions[:, :, index : index + 1]
        for index, name in enumerate(("figure", "hands", "face"))
    }
    amplification = amplify(masks, settings.region_factors)
    # Frame 0 is the reference, which the model knows, so its loss gets a small weight.
    importance = torch.ones(1, F, 1, 1, 1)
    importance[:, 0] = 0.25
    amplification = amplification * importance / (amplification * importance).mean()
    loss = objective.edm_loss(x0_hat, x0, sigma, amplification=amplification)
    with torch.no_grad():
        error = (x0_hat - x0).square()[:, 1:].mean((1, 2, 3, 4))
        high = sigma > 3
        facts = {"loss": loss.item(), "palette": palette.item()}
        if high.any():
            facts["x0_high"] = error[high].mean().item()
        if (~high).any():
            facts["x0_low"] = error[~high].mean().item()
    return loss + settings.palette_weight * palette, facts


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
