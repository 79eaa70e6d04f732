"""What can be set of a training: the keys of a training YAML that has `family`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mimic.config.loading import Config
from mimic.data.processes import check_num_processes
from mimic.data.settings import DataSettings


class LoraSettings(Config):
    """Train low-rank differences to some layers, and leave the layers themselves as they are."""

    rank: int = Field(default=16, ge=1)
    """Rank of the differences: 4 to 64 are usual."""

    alpha: float | None = Field(default=None, gt=0)
    """The differences are scaled by alpha / rank; none: alpha = rank."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of a difference that is left out at random."""

    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Layers that get differences, by the end of their names or by patterns over the whole names."""


class OptimiserSettings(Config):
    """How weights follow gradients."""

    name: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps its two moments in a byte each instead of four (needs bitsandbytes, not FSDP2)."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """The paper's is 1e-5."""

    betas: tuple[float, float] = (0.9, 0.999)
    """How slowly the means of gradients and of their squares change."""

    eps: float = Field(default=1e-8, gt=0)
    """Keeps the division by the root of the second mean from exploding."""

    weight_decay: float = Field(default=1e-2, ge=0)
    """Of matrices and convolutions; biases, norms and scales have none."""


class ScheduleSettings(Config):
    """How the learning rate goes along the steps."""

    name: Literal["constant", "cosine"] = "constant"
    """After the warm-up: stay, or fall along half a cosine until `max_steps`. Resuming with another
    `max_steps` stretches the cosine; the jump of the rate is reported."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the rate grows linearly from 0."""

    final_share: float = Field(default=0.0, ge=0, le=1)
    """cosine ends at this share of the rate."""


class ValidationSettings(Config):
    """Videos and numbers of clips that are not trained on, always the same with the same noise."""

    every: int = Field(default=0, ge=0)
    """Validate every n steps, and after the last; 0: never."""

    at_start: bool = False
    """With `every`, also validate before the first step, to compare later results with."""

    num_clips: int = Field(default=4, ge=1)
    """How many of the validation clips, from the first."""

    seed: int = 0
    """Of the noise that videos begin with."""

    best_by: Literal["psnr", "ssim", "hand_psnr"] = "psnr"
    """The checkpoint with the best mean of this is kept as well as the last ones. hand_psnr needs hands among
    `data.regions`."""

    fps: float = Field(default=7.0, gt=0)
    """Of the grid's video."""

    decode_chunk_size: int | None = Field(default=None, ge=1)
    """Frames decoded together, which is what validation needs most memory for; none: the model's default
    (8 for released weights). Decoders that look along time give slightly other frames with another number."""


class CheckpointSettings(Config):
    """When the whole state of the training goes to the disk."""

    every: int = Field(default=500, ge=1)
    """Save a checkpoint every n steps, and after the last."""

    keep: int = Field(default=2, ge=1)
    """How many of the last checkpoints stay."""

    keep_best: bool = True
    """Also keep the checkpoint with the best validation score."""


class MemorySettings(Config):
    """What is paid with time for memory."""

    chunk_frames: int | None = Field(default=None, ge=1)
    """Frames that spatial layers compute at a time, in families that support it; none: all at once."""

    cache: Path | None = None
    """Encode all clips once, before the first step, into this folder; none: encode at each step. Wants clips
    that are cut alike each time."""

    offload_activations: bool = False
    """Keep what the backward pass needs in the main memory until then."""


class TrainSettings(Config):
    """A training of one family's networks."""

    family: str
    """Which system: a name of `mimic.families.registry.trained_families`."""

    model: str = "bundled:mini"
    """What is trained further: a model folder, a hub id, `bundled:mini`, or `tiny` (random, to try things
    out)."""

    checkpoint: str | None = None
    """A released checkpoint that goes over `model`."""

    output_dir: Path
    """Where log, checkpoints, validation videos and the finished model go."""

    seed: int = Field(default=0, ge=0)
    """Decides everything that is random."""

    max_steps: int = Field(ge=1)
    """Number of steps after which the training ends."""

    resume: Literal["auto", "never"] = "auto"
    """auto: resume from the last checkpoint in `output_dir`; never: refuse a folder that has any."""

    data: DataSettings
    """Clips, and how samples are made of them."""

    objective: Mapping[str, Any] = {}
    """The family's own settings."""

    trainable: tuple[str, ...] = ()
    """What is trained: networks (`pose_net`), the family's names for parts (`unet.temporal`), or patterns
    over parameter names. Empty: everything, or nothing but the differences where `lora` is given."""

    lora: LoraSettings | None = None
    """Train low-rank adapters."""

    optimiser: OptimiserSettings = OptimiserSettings()
    """How weights follow gradients."""

    schedule: ScheduleSettings = ScheduleSettings()
    """How the learning rate goes along the steps."""

    batch_size: int = Field(default=1, ge=1)
    """Clips a step, over all processes and accumulated passes together."""

    accumulate: int = Field(default=1, ge=1)
    """Passes that a process divides its share of the batch into."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the networks compute in; weights that are trained stay float32."""

    frozen_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of weights that are not trained: VAE and image encoder, and, where `precision` is not fp32,
    what is frozen inside the trained networks (not under FSDP2 and DeepSpeed, which want one precision).
    auto: bf16 on a CUDA device with precision bf16, else fp32. The finished model has its frozen weights as
    exact as they came."""

    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Average the weights with this decay; validation and the finished model use the average. None: no
    average."""

    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm; none: as they are."""

    max_skipped: int = Field(default=10, ge=1)
    """Steps without a finite loss are skipped; after this number in a row the training stops."""

    num_workers: int = Field(default=0, ge=0)
    """Processes that prepare clips, for each process that trains; 0: itself."""

    cpu_threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads a process computes with on the CPU; none: as many as torch takes. Another number may change the
    last bits of results."""

    tensorboard: bool = True
    """Write curves for TensorBoard, if it is installed."""

    tracker: str | None = None
    """Experiment tracker that also gets all figures and validation pictures: any that accelerate knows and
    that is installed, such as wandb, trackio, mlflow or aim. Its own environment variables configure it."""

    log_every: int = Field(default=10, ge=1)
    """Without a terminal for a progress bar, print a line every n steps."""

    validation: ValidationSettings = ValidationSettings()
    """Videos and numbers of clips that are not trained on."""

    checkpoints: CheckpointSettings = CheckpointSettings()
    """When the state goes to the disk."""

    memory: MemorySettings = MemorySettings()
    """What is paid with time for memory."""

    @model_validator(mode="after")
    def _check(self) -> TrainSettings:
        check_num_processes(self.num_workers, "num_workers")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size is {self.batch_size}, accumulate {self.accumulate}; a step's batch is divided "
                "into so many equal passes: give a multiple"
            )
        if self.model == "tiny" and self.checkpoint is not None:
            raise ValueError("model is tiny, which no released checkpoint fits; leave checkpoint out")
        if self.data.references > 1 and self.memory.cache is not None:
            raise ValueError(
                f"data.references is {self.data.references}, and memory.cache holds the embedding of one "
                "reference of each clip; leave one of the two out"
            )
        best_by = self.validation.best_by
        if self.validation.every and best_by == "hand_psnr" and "hands" not in self.data.regions:
            raise ValueError(
                f"validation.best_by is hand_psnr, but data.regions is {list(self.data.regions)}: no hand is "
                "ever measured; add hands to data.regions, or use best_by: psnr"
            )
        return self


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, counted from 0: linear warm-up, then constant or half a cosine."""
    return rate_of(settings.schedule, settings.optimiser.learning_rate, settings.max_steps, step)


def rate_of(schedule: ScheduleSettings, top: float, max_steps: int, step: int) -> float:
    """As `learning_rate`, of the settings that it depends on; `top` is the highest rate."""
    if step < schedule.warmup_steps:
        return top * (step + 1) / schedule.warmup_steps
    if schedule.name == "constant":
        return top
    length = max(1, max_steps - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / length)
    share = schedule.final_share + (1 - schedule.final_share) * (1 + math.cos(math.pi * progress)) / 2
    return top * share
