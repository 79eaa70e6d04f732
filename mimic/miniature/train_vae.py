"""Training of the miniature's VAE on synthetic dancers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from tqdm import tqdm

from mimic.config.loading import Config, ConfigError
from mimic.files import whole_folder, without_empty_folders
from mimic.locks import locked_folder
from mimic.miniature.crops import Crops, CropStream
from mimic.miniature.dancers import Dancer, DancerSettings, stream_dancers
from mimic.miniature.kept_latents import half_size, kept_latents_loss
from mimic.miniature.made_latents import LatentMaker
from mimic.miniature.sharpness import (
    PatchDiscriminator,
    balance,
    discriminator_loss,
    edge_error,
    generator_terms,
)
from mimic.miniature.vae_figures import write_figures
from mimic.models.mini import (
    MiniTemporalVAE,
    freeze_temporal_layers,
    initialise_as_averaging,
    widen_latents,
)
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.models.vae import vae_downscale
from mimic.training.main import Trainer
from mimic.training.setup import check_folder
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
    seed: int = Field(0, ge=0)
    dancers: DancerSettings = DancerSettings(num_pictures=8)
    block_out_channels: tuple[int, ...] = (32, 32, 64)
    latent_channels: int = Field(8, ge=1)
    norm_num_groups: int = 8
    max_steps: int = Field(2000, ge=1)
    batch_size: int = Field(16, ge=1)
    """Number of crops in a batch. Batches of whole pictures have as many pixels, so fewer pictures."""
    crop: int = 64
    """Side of the crops in pixels."""
    full_picture_share: float = Field(0.2, ge=0, le=1)
    """Share of the steps, at the end, that trains on whole pictures."""
    mixed_pictures: float = Field(0.0, ge=0, le=1)
    """Share of the steps before them that trains on whole pictures, at random."""
    crop_centres: Mapping[str, float] = {"figure": 1.0}
    """Share of the crops with a centre in ``figure``, ``hands`` and ``face``."""
    frames: int = Field(1, ge=1)
    """Consecutive frames in each crop (with `dancers.timing: clip`). 1 trains on single pictures and leaves
    the decoder's temporal layers as initialised, without effect; more trains these layers too."""
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    kl_weight: float = 1e-6
    mean_weight: float = 1e-3
    """Weight of the loss on the squared mean of each latent channel, which centres the latents."""
    region_factors: Mapping[str, float] = {"figure": 3.0, "hands": 6.0, "face": 6.0}
    small_gain: float = Field(1.0, ge=1)
    """Largest further factor for hands and faces that are small in their picture."""
    adversarial_weight: float = Field(0.0, ge=0)
    """Gradient of the discriminator's loss at the decoder's last layer, relative to that of the
    reconstruction; 0 trains without a discriminator."""
    matching_weight: float = Field(0.0, ge=0)
    """The same for the loss on the discriminator's features."""
    adversarial_from: int = Field(0, ge=0)
    """Step from which the discriminator's losses train the VAE; it trains itself 100 steps longer."""
    trains_encoder: bool = True
    """Whether the encoder is trained; false keeps the latents as they are, for a UNet that was trained on
    them."""
    latents_of: Path | None = None
    """Folder of a miniature on this VAE, whose latents the decoder learns to draw; null: the encoder's alone.
    """
    latents_of_share: float = Field(0.7, ge=0, le=1)
    """Share of the clips whose latents are the miniature's; the others' are the encoder's."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of convolutions; bf16 halves the time on processors that compute in it (AVX512-BF16, AMX)."""
    ema_decay: float = 0.998
    save_every: int = Field(250, ge=1)
    start_from: Path | None = None
    """Folder of a trained VAE to start from, which may have fewer latent channels; null: random weights."""
    keeps_latents_of: Path | None = None
    """Folder of a trained VAE for pictures of half the size. The first latent channels become those of it, so
    that a UNet trained on it keeps what it knows."""
    kept_weight: float = Field(0.5, ge=0)
    """Weight of the loss that keeps them."""
    num_workers: int = 1
    resume: Literal["auto", "never"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> MiniVAESettings:
        if self.frames > 1 and (self.dancers.timing != "clip" or self.dancers.num_pictures <= self.frames):
            raise ValueError(
                f"frames is {self.frames}; consecutive frames need dancers.timing: clip and "
                f"dancers.num_pictures above {self.frames}"
            )
        if self.latents_of is not None and (self.trains_encoder or self.frames == 1):
            raise ValueError(
                "latents_of trains the decoder alone, on clips: use trains_encoder: false and frames above 1"
            )
        downscale = 2 ** (len(self.block_out_channels) - 1)
        if self.crop % downscale or self.crop > min(self.dancers.height, self.dancers.width):
            raise ValueError(
                f"crop is {self.crop}; expected a multiple of the VAE's downscale, {downscale}, not larger "
                "than the pictures"
            )
        return self


def train_mini_vae(settings: MiniVAESettings, *, progress: bool = True) -> Path:
    """Train the VAE, write it to `<output_dir>/final` and return that folder.

    With each checkpoint, figures and a sheet of unseen dancers are written to `<output_dir>/figures`.

    Raises:
        ConfigError: `output_dir` holds checkpoints and `resume` is ``never``, or there is no VAE to start
            from (a `ValueError`).
        FolderInUseError: another process trains in the same output folder.
        StateError: `output_dir` cannot be written.
    """
    if settings.latents_of is not None and not (settings.latents_of / "model_index.json").is_file():
        raise ConfigError(
            f"there is no miniature in {settings.latents_of}; the first lines of the training's YAML say how "
            "it is made"
        )
    for source in (settings.start_from, settings.keeps_latents_of):
        if source is not None and not (source / "config.json").is_file():
            raise ConfigError(
                f"there is no VAE in {source}; the first lines of the training's YAML say how it is made"
            )
    with without_empty_folders(settings.output_dir):
        check_folder(settings.output_dir)
        with locked_folder(settings.output_dir, work="a training", say=print):
            return _train(settings, progress=progress)


def _train(settings: MiniVAESettings, *, progress: bool) -> Path:
    """Train in a folder that no other process uses."""
    torch.manual_seed(settings.seed)
    whole = checkpoints(settings.output_dir)
    if whole and settings.resume == "never":
        raise ConfigError(f"{settings.output_dir} holds checkpoints; use resume: auto, or another output_dir")
    training = _Training.start(settings)
    if whole:
        training.load(whole[-1])
    stream = _crop_stream(settings, training)
    bar = tqdm(
        total=settings.max_steps, initial=training.step, desc="VAE", disable=not progress, mininterval=10
    )
    generator = np.random.default_rng([settings.seed, training.step, 1])
    started = time.monotonic() - training.seconds
    figures: dict[str, float] | None = None
    while training.step < settings.max_steps:
        is_last_part = training.step >= settings.max_steps * (1 - settings.full_picture_share)
        is_whole = is_last_part or generator.uniform() < settings.mixed_pictures
        crop = settings.dancers.height if is_whole else settings.crop
        facts = training.make_step(stream.draw(settings.batch_size * settings.crop**2, crop))
        training.seconds = time.monotonic() - started
        bar.update()
        bar.set_postfix({name: f"{value:.3g}" for name, value in facts.items()}, refresh=False)
        if training.step % settings.save_every == 0 or training.step == settings.max_steps:
            training.save(facts)
            figures = write_figures(training.averaged(), settings.dancers, settings.output_dir, training.step)
            shown = " ".join(f"{name} {value:.4g}" for name, value in (facts | figures).items())
            print(f"step {training.step} {shown} {training.seconds:.0f} s", flush=True)
    return _finish(training.averaged(), figures, settings)


@dataclass
class _Training:
    """Everything that changes along the steps."""

    settings: MiniVAESettings
    vae: MiniTemporalVAE
    discriminator: PatchDiscriminator
    parameters: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    opponent: torch.optim.Optimizer
    """Of the discriminator."""
    average: dict[str, Tensor]
    source: MiniTemporalVAE | None
    """Whose latents are kept."""
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def start(cls, settings: MiniVAESettings) -> _Training:
        vae = build_vae(settings)
        initialise_as_averaging(vae)
        source = None
        if settings.start_from is not None:
            widen_latents(MiniTemporalVAE.from_pretrained(settings.start_from), vae)
        if settings.keeps_latents_of is not None:
            source = MiniTemporalVAE.from_pretrained(settings.keeps_latents_of).requires_grad_(False).eval()
        use_fast_temporal_convolutions(vae)
        if settings.frames == 1:
            freeze_temporal_layers(vae)
        if not settings.trains_encoder:
            for module in (vae.encoder, vae.quant_conv):
                module.requires_grad_(False)
        parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
        discriminator = PatchDiscriminator()
        vae.train()
        return cls(
            settings,
            vae,
            discriminator,
            parameters,
            torch.optim.AdamW(
                parameters, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
            ),
            torch.optim.AdamW(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.9), fused=True),
            {name: value.clone() for name, value in vae.state_dict().items()},
            source,
        )

    def make_step(self, crops: Crops) -> dict[str, float]:
        """Train on one batch and return what is shown of it."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(self.step, settings)
        with self._autocast(), torch.set_grad_enabled(settings.trains_encoder):
            posterior = self.vae.encode(crops.pixels).latent_dist
            latents = posterior.sample()
        if crops.made is not None:
            num_clips = len(latents) // settings.frames
            is_made = torch.rand(num_clips) < settings.latents_of_share
            latents = torch.where(
                is_made.repeat_interleave(settings.frames).view(-1, 1, 1, 1), crops.made, latents
            )
        with self._autocast():
            output = self.vae.decode(latents, num_frames=settings.frames).sample
        output = output.float()
        error = output - crops.pixels
        reconstruction = (crops.weight * (error.square() + 0.1 * error.abs())).mean()
        reconstruction = reconstruction + 0.5 * edge_error(output, crops.pixels, crops.weight)
        loss = reconstruction
        if settings.trains_encoder:
            mean = posterior.mean.mean((0, 2, 3)).square().mean()
            loss = loss + settings.kl_weight * posterior.kl().mean() + settings.mean_weight * mean
            if self.source is not None:
                with torch.no_grad():
                    kept = self.source.encode(half_size(crops.pixels)).latent_dist.mode()
                loss = loss + settings.kept_weight * kept_latents_loss(posterior.mean, kept)
        facts = {"psnr": -10 * torch.log10((error.detach() / 2).square().mean()).item()}
        if self._is_opposed:
            if self.step >= settings.adversarial_from:
                loss = loss + self._sharpening(crops, output, reconstruction)
            facts["opponent"] = self._train_opponent(crops, output)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        with torch.no_grad():
            decay = min(settings.ema_decay, self.step / (self.step + 10))
            for name, value in self.vae.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return facts | {"loss": loss.item(), "std": posterior.mean.std().item()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16")

    @property
    def _is_opposed(self) -> bool:
        settings = self.settings
        has_weight = settings.adversarial_weight > 0 or settings.matching_weight > 0
        return has_weight and self.step >= settings.adversarial_from - 100

    def _sharpening(self, crops: Crops, output: Tensor, reconstruction: Tensor) -> Tensor:
        settings, last_layer = self.settings, self.vae.decoder.conv_out.weight
        with self._autocast():
            hinge, matching = generator_terms(self.discriminator, crops.pixels, output, crops.weight)
        total = output.new_zeros(())
        for weight, term in ((settings.adversarial_weight, hinge), (settings.matching_weight, matching)):
            if weight > 0:
                total = total + weight * balance(reconstruction, term, last_layer) * term
        return total

    def _train_opponent(self, crops: Crops, output: Tensor) -> float:
        with self._autocast():
            loss = discriminator_loss(self.discriminator, crops.pixels, output)
        self.opponent.zero_grad(set_to_none=True)
        loss.backward()
        self.opponent.step()
        return loss.item()

    def averaged(self) -> MiniTemporalVAE:
        """Return a VAE with the averaged weights."""
        vae = build_vae(self.settings)
        vae.load_state_dict(self.average)
        use_fast_temporal_convolutions(vae)
        return vae.requires_grad_(False).eval()

    def save(self, facts: dict[str, float]) -> None:
        tensors = {
            "model": self.vae.state_dict(),
            "average": self.average,
            "optimiser": optimiser_tensors(self.optimiser),
        }
        if opponent := optimiser_tensors(self.opponent):
            tensors |= {"discriminator": self.discriminator.state_dict(), "opponent": opponent}
        save_state(
            self.settings.output_dir, self.step, tensors=tensors, facts=facts | {"seconds": self.seconds}
        )

    def load(self, checkpoint: Path) -> None:
        tensors, facts = load_state(checkpoint)
        self.vae.load_state_dict(tensors["model"])
        self.average = tensors["average"]
        load_optimiser_tensors(self.optimiser, tensors["optimiser"])
        if "discriminator" in tensors:
            self.discriminator.load_state_dict(tensors["discriminator"])
            load_optimiser_tensors(self.opponent, tensors["opponent"])
        self.step, self.seconds = facts["step"], facts["seconds"]


def build_vae(settings: MiniVAESettings) -> MiniTemporalVAE:
    """Build an untrained VAE as the settings say."""
    return MiniTemporalVAE(
        down_block_types=("DownEncoderBlock2D",) * len(settings.block_out_channels),
        block_out_channels=settings.block_out_channels,
        latent_channels=settings.latent_channels,
        sample_size=settings.dancers.height,
        norm_num_groups=settings.norm_num_groups,
    )


def _crop_stream(settings: MiniVAESettings, training: _Training) -> CropStream:
    stream: Iterator[Dancer] = stream_dancers(
        settings.dancers,
        first_seed=10_000_000 + training.step * settings.batch_size,
        num_workers=settings.num_workers,
    )
    return CropStream(
        stream,
        factors=settings.region_factors,
        small_gain=settings.small_gain,
        centres=settings.crop_centres,
        frames=settings.frames,
        step=vae_downscale(training.vae),
        rng=np.random.default_rng(settings.seed + training.step),
        make_latents=None if settings.latents_of is None else LatentMaker(settings.latents_of),
    )


def _finish(vae: MiniTemporalVAE, figures: dict[str, float] | None, settings: MiniVAESettings) -> Path:
    """Store the scale of the latents of unseen dancers as scaling_factor, and save the VAE.

    Args:
        vae: with the averaged weights.
        figures: of its last step, measured now if that was in an earlier run.
        settings: of the training.
    """
    if figures is None:
        figures = write_figures(vae, settings.dancers, settings.output_dir, settings.max_steps)
    factor = round(1 / figures["latents_std"], 4)
    if settings.keeps_latents_of is not None:  # the kept channels are scaled as a UNet knows them
        factor = MiniTemporalVAE.from_pretrained(settings.keeps_latents_of).config["scaling_factor"]
    vae.register_to_config(scaling_factor=factor)
    print(f"unseen dancers {' '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
    folder = settings.output_dir / "final"
    with whole_folder(folder) as beside:
        vae.save_pretrained(beside)
    return folder


def _schedule(step: int, settings: MiniVAESettings) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine decay to a twentieth."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * step / settings.max_steps))))


TRAINER = Trainer(MiniVAESettings, train_mini_vae)
