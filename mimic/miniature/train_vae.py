"""Training of the miniature's VAE on synthetic dancers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers.models.resnet import TemporalResnetBlock
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from mimic.config.loading import Config, ConfigError
from mimic.files import whole_folder
from mimic.miniature.dancers import Dancer, DancerSettings, as_network_input, stream_dancers
from mimic.models.mini import (
    MiniTemporalVAE,
    initialise_as_averaging,
    widen_latents,
)
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.training.main import Trainer
from mimic.training.state import (
    checkpoints,
    load_optimiser_tensors,
    load_state,
    optimiser_tensors,
    save_state,
)


class MiniVAESettings(Config):
    """Settings of `configs/train/mini_vae.yaml`."""

    output_dir: Path = Path("runs/mini_vae")
    seed: int = 0
    dancers: DancerSettings = DancerSettings(num_pictures=8)
    block_out_channels: tuple[int, ...] = (32, 32, 64)
    latent_channels: int = 8
    norm_num_groups: int = 8
    max_steps: int = Field(2000, ge=1)
    batch_size: int = Field(16, ge=1)
    crop: int = 64
    """Side of the crops around the figure in pixels; the last `full_picture_share` of the steps trains on
    whole pictures."""
    full_picture_share: float = 0.2
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    kl_weight: float = 1e-6
    mean_weight: float = 1e-3
    """Weight of the loss on the squared mean of each latent channel, which centres the latents."""
    region_factors: Mapping[str, float] = {"figure": 3.0, "hands": 6.0, "face": 6.0}
    ema_decay: float = 0.998
    save_every: int = Field(250, ge=1)
    start_from: Path | None = None
    """Folder of a trained VAE to start from, which may have fewer latent channels; null: random weights."""
    num_workers: int = 1
    resume: Literal["auto", "never"] = "auto"


def train_mini_vae(settings: MiniVAESettings, *, progress: bool = True) -> Path:
    """Train the VAE, write it to `<output_dir>/final` and return that folder.

    Raises:
        ConfigError: `output_dir` holds checkpoints and `resume` is ``never`` (a `ValueError`).
    """
    torch.manual_seed(settings.seed)
    vae = MiniTemporalVAE(
        down_block_types=("DownEncoderBlock2D",) * len(settings.block_out_channels),
        block_out_channels=settings.block_out_channels,
        latent_channels=settings.latent_channels,
        sample_size=settings.dancers.height,
        norm_num_groups=settings.norm_num_groups,
    )
    initialise_as_averaging(vae)
    if settings.start_from is not None:
        widen_latents(MiniTemporalVAE.from_pretrained(settings.start_from), vae)
    use_fast_temporal_convolutions(vae)
    parameters = _freeze_temporal(vae)
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    average = {name: value.clone() for name, value in vae.state_dict().items()}
    step, log_seconds = 0, 0.0
    whole = checkpoints(settings.output_dir)
    if whole and settings.resume == "never":
        raise ConfigError(f"{settings.output_dir} holds checkpoints; use resume: auto, or another output_dir")
    if whole:
        tensors, facts = load_state(whole[-1])
        vae.load_state_dict(tensors["model"])
        average = tensors["average"]
        load_optimiser_tensors(optimiser, tensors["optimiser"])
        step, log_seconds = facts["step"], facts["seconds"]
    stream = stream_dancers(
        settings.dancers, first_seed=10_000_000 + step * settings.batch_size, num_workers=settings.num_workers
    )
    crops = _Crops(settings, np.random.default_rng(settings.seed + step))
    started = time.monotonic() - log_seconds
    bar = tqdm(total=settings.max_steps, initial=step, desc="VAE", disable=not progress, mininterval=10)
    vae.train()
    while step < settings.max_steps:
        is_whole_picture = step >= settings.max_steps * (1 - settings.full_picture_share)
        pixels, weight = crops.draw(stream, whole_pictures=is_whole_picture)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        posterior = vae.encode(pixels).latent_dist
        latents = posterior.sample()
        output = vae.decode(latents, num_frames=1).sample
        error = output - pixels
        reconstruction = (weight * (error.square() + 0.1 * error.abs())).mean()
        reconstruction = reconstruction + 0.5 * _edge_error(output, pixels, weight)
        mean = posterior.mean.mean((0, 2, 3)).square().mean()
        loss = reconstruction + settings.kl_weight * posterior.kl().mean() + settings.mean_weight * mean
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            decay = min(settings.ema_decay, step / (step + 10))
            for name, value in vae.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        psnr = -10 * torch.log10((error.detach() / 2).square().mean()).item()
        bar.update()
        bar.set_postfix(psnr=f"{psnr:.1f}", std=f"{posterior.mean.std().item():.2f}", refresh=False)
        if step % settings.save_every == 0 or step == settings.max_steps:
            save_state(
                settings.output_dir,
                step,
                tensors={
                    "model": vae.state_dict(),
                    "average": average,
                    "optimiser": optimiser_tensors(optimiser),
                },
                facts={"seconds": time.monotonic() - started, "psnr": psnr},
            )
            print(
                f"step {step} psnr {psnr:.2f} loss {loss.item():.4f} {time.monotonic() - started:.0f} s",
                flush=True,
            )
    vae.load_state_dict(average)
    return _finish(vae, settings)


@torch.no_grad()
def _finish(vae: MiniTemporalVAE, settings: MiniVAESettings) -> Path:
    """Measure the scale of latents on new dancers, store it as scaling_factor, and save the VAE."""
    vae.eval()
    stream = stream_dancers(settings.dancers, first_seed=5_000_000, num_workers=0)
    pictures = torch.cat([next(stream).pictures for _ in range(16)])
    means = torch.cat([vae.encode(as_network_input(part)).latent_dist.mode() for part in pictures.split(16)])
    vae.register_to_config(scaling_factor=round(float(1 / means.std()), 4))
    decoded = torch.cat([vae.decode(part, num_frames=1).sample for part in means.split(16)])
    error = ((decoded.clamp(-1, 1) - as_network_input(pictures)) / 2).square().mean()
    channels = means.std((0, 2, 3)).tolist()
    print(f"PSNR of fresh dancers {-10 * torch.log10(error):.2f} dB")
    print(f"latent channels' std {[round(c, 2) for c in channels]}")
    folder = settings.output_dir / "final"
    with whole_folder(folder) as beside:
        vae.save_pretrained(beside)
    return folder


def _freeze_temporal(vae: MiniTemporalVAE) -> list[torch.nn.Parameter]:
    """Freeze the decoder's temporal layers, initialised as identity, because training uses single
    pictures."""
    for name, parameter in vae.named_parameters():
        if "temporal_res_block" in name or "time_mixer" in name:
            parameter.requires_grad_(False)
    for module in vae.modules():
        if isinstance(module, TemporalResnetBlock):
            module.forward = _identity  # the same result as the initialised layer, but faster
    return [parameter for parameter in vae.parameters() if parameter.requires_grad]


def _identity(hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
    return hidden_states


def _schedule(step: int, settings: MiniVAESettings) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine decay to a twentieth."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * step / settings.max_steps))))


def _edge_error(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the error of first differences, which keeps edges sharp."""
    total = output.new_zeros(())
    for axis in (-1, -2):
        difference = output.diff(dim=axis) - target.diff(dim=axis)
        total = total + (weight.narrow(axis, 1, weight.shape[axis] - 1) * difference.square()).mean()
    return total


class _Crops:
    """Draws batches of crops around the figure and pixel weights; each dancer is used several times."""

    def __init__(self, settings: MiniVAESettings, rng: np.random.Generator) -> None:
        self.settings = settings
        self.rng = rng
        self.pool: list[Dancer] = []

    def draw(self, stream: Iterator[Dancer], *, whole_pictures: bool) -> tuple[Tensor, Tensor]:
        for _ in range(1 if self.pool else 24):
            self.pool.append(next(stream))
        self.pool = self.pool[-24:]
        pixels, weights = [], []
        for _ in range(self.settings.batch_size):
            dancer = self.pool[int(self.rng.integers(len(self.pool)))]
            number = int(self.rng.integers(len(dancer.pictures)))
            picture = as_network_input(dancer.pictures[number])
            weight = self._weight(dancer.regions[number].float() / 100, picture.shape[-1])
            if not whole_pictures:
                picture, weight = self._cropped(picture, weight)
            pixels.append(picture)
            weights.append(weight)
        return torch.stack(pixels), torch.stack(weights)

    def _weight(self, regions: Tensor, size: int) -> Tensor:
        weight = torch.ones(1, *regions.shape[1:])
        for index, name in enumerate(("figure", "hands", "face")):
            factor = self.settings.region_factors.get(name, 1.0)
            weight = torch.maximum(weight, 1 + (factor - 1) * regions[index])
        return functional.interpolate(weight[None], size=(size, size), mode="nearest")[0]

    def _cropped(self, picture: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        crop, (height, width) = self.settings.crop, picture.shape[-2:]
        inside = (weight[0] > 1).nonzero()
        centre = (
            inside[int(self.rng.integers(len(inside)))]
            if len(inside)
            else torch.tensor([height // 2, width // 2])
        )
        top = int(np.clip(int(centre[0]) - crop // 2, 0, height - crop)) // 4 * 4
        left = int(np.clip(int(centre[1]) - crop // 2, 0, width - crop)) // 4 * 4
        window = (slice(None), slice(top, top + crop), slice(left, left + crop))
        return picture[window], weight[window]


TRAINER = Trainer(MiniVAESettings, train_mini_vae)
