"""Settings of a training: the keys of a training YAML that has `family`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mimic.config.loading import Config
from mimic.data.processes import check_num_processes
from mimic.data.settings import DataSettings

Beta = Annotated[float, Field(ge=0, lt=1)]

REGION_OF_FIGURE = {"hand_psnr": "hands", "face_psnr": "face"}
"""Figures of validation that are measured inside a region, and the region."""


class LoraSettings(Config):
    """Low-rank adapters (LoRA), trained beside frozen layers."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters; usually 4 to 64."""

    alpha: float | None = Field(default=None, gt=0)
    """Adapters are scaled by alpha / rank; null: alpha = rank."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout probability of the adapters' inputs."""

    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Layers with adapters: ends of layer names, modules, parts of the family, or patterns over names."""


class OptimiserSettings(Config):
    """The optimiser."""

    name: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` stores both moments in 8 bits (needs bitsandbytes; not with FSDP2)."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Highest learning rate; the paper's is 1e-5."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running means of gradients and of their squares."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator for numerical stability."""

    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of matrices and convolutions; biases, norms and scales have none."""


class ScheduleSettings(Config):
    """Learning rate schedule."""

    name: Literal["constant", "cosine"] = "constant"
    """After the warm-up: a constant rate, or half a cosine that ends at `max_steps`. Resuming with another
    `max_steps` stretches the cosine; the jump of the rate is reported."""

    warmup_steps: int = Field(default=0, ge=0)
    """Number of steps in which the rate increases linearly from 0."""

    final_share: float = Field(default=0.0, ge=0, le=1)
    """Final rate of `cosine`, as a fraction of `learning_rate`."""


class ValidationSettings(Config):
    """Validation on clips that are not trained on, always the same clips with the same noise."""

    every: int = Field(default=0, ge=0)
    """Validate every n steps, and after the last; 0: never."""

    at_start: bool = False
    """With `every`, also validate before the first step, to compare later results with."""

    num_clips: int = Field(default=4, ge=1)
    """Number of validation clips, from the first."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the noise."""

    best_by: Literal["psnr", "ssim", "hand_psnr", "face_psnr", "identity"] = "psnr"
    """Metric by which the best checkpoint is chosen and kept. `hand_psnr` needs `hands` in `data.regions`,
    `face_psnr` needs `face` there, `identity` needs `face_model`."""

    face_model: str | None = None
    """ONNX file of a face recognition network (ArcFace, for example). With it, validation reports `identity`:
    the cosine between the embeddings of generated and true faces, a mean over the frames that show a face."""

    fps: float = Field(default=7.0, ge=0.1, le=240)
    """Frame rate of the validation video."""

    decode_chunk_size: int | None = Field(default=None, ge=1)
    """Number of frames decoded together, which determines the memory of validation; null: the model's default
    (8 for released weights). Temporal decoders give slightly different frames with another number."""


class CheckpointSettings(Config):
    """Checkpoints of the whole state of the training."""

    every: int = Field(default=500, ge=1)
    """Save a checkpoint every n steps, and after the last."""

    keep: int = Field(default=2, ge=1)
    """Number of latest checkpoints to keep."""

    keep_best: bool = True
    """Also keep the checkpoint with the best validation score."""


class MemorySettings(Config):
    """Settings that save memory at the cost of time."""

    chunk_frames: int | None = Field(default=None, ge=1)
    """Number of frames that spatial layers compute at a time, in families that support it; null: all."""

    cache: Path | None = None
    """Folder for the latents and embeddings of all clips, which are encoded once, before the first step;
    null: encode at each step. Not with random crops."""

    offload_activations: bool = False
    """Keep activations saved for the backward pass in main memory."""


class TrainSettings(Config):
    """A training of one family's networks."""

    family: str
    """Which system: a name of `mimic.families.registry.trained_families`."""

    model: str = "bundled:mini"
    """Model to start from: a model folder, a hub id, `bundled:mini`, or `tiny` (random, for trials)."""

    checkpoint: str | None = None
    """A released checkpoint whose weights replace those of `model`."""

    output_dir: Path
    """Folder of the log, checkpoints, validation videos and the finished model."""

    seed: int = Field(default=0, ge=0)
    """Seed of all random numbers."""

    max_steps: int = Field(ge=1)
    """Number of steps after which the training ends."""

    resume: Literal["auto", "never"] = "auto"
    """auto: resume from the last checkpoint in `output_dir`; never: refuse a folder that has any."""

    data: DataSettings
    """Clips and samples."""

    objective: Mapping[str, Any] = {}
    """The family's own settings."""

    trainable: tuple[str, ...] = ()
    """What to train: networks (`pose_net`), parts of the family (`unet.temporal`), or patterns over parameter
    names. Empty: everything, or only the adapters if `lora` is given."""

    lora: LoraSettings | None = None
    """Train low-rank adapters."""

    optimiser: OptimiserSettings = OptimiserSettings()
    """The optimiser."""

    schedule: ScheduleSettings = ScheduleSettings()
    """Learning rate schedule."""

    batch_size: int = Field(default=1, ge=1)
    """Number of clips per step, over all processes and accumulated passes."""

    accumulate: int = Field(default=1, ge=1)
    """Number of passes into which each process divides its share of the batch."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision in which the networks compute; trained weights stay float32."""

    frozen_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of weights that are not trained: VAE and image encoder, and, where `precision` is not fp32,
    what is frozen inside the trained networks (not under FSDP2 and DeepSpeed, which want one precision).
    auto: bf16 on a CUDA device with precision bf16, else fp32. The finished model has its frozen weights in
    their original precision."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights, which validation and the finished model use;
    null: no average."""

    clip_norm: float | None = Field(default=1.0, gt=0)
    """Maximum norm of the gradients; null: no clipping."""

    max_skipped: int = Field(default=10, ge=1)
    """Steps without a finite loss are skipped; after this many in a row, the training stops."""

    num_workers: int = Field(default=0, ge=0)
    """Number of processes that load clips, for each process that trains; 0: it loads them itself."""

    cpu_threads: int | None = Field(default=None, ge=1, le=1024)
    """Number of CPU threads of each process; null: torch's default. Another number may change the last bits
    of results."""

    tensorboard: bool = True
    """Write curves, validation pictures and clips for TensorBoard, if it is installed."""

    tracker: str | None = None
    """Experiment tracker that also gets all metrics and validation pictures: any that accelerate knows and
    that is installed, such as wandb, trackio, mlflow or aim. Its own environment variables configure it."""

    log_every: int = Field(default=10, ge=1)
    """Print a line every so many steps, and at least once a minute, where there is no progress bar."""

    validation: ValidationSettings = ValidationSettings()
    """Videos and numbers of clips that are not trained on."""

    checkpoints: CheckpointSettings = CheckpointSettings()
    """When the state goes to the disk."""

    memory: MemorySettings = MemorySettings()
    """Settings that save memory at the cost of time."""

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
        region = REGION_OF_FIGURE.get(best_by)
        if self.validation.every and region is not None and region not in self.data.regions:
            raise ValueError(
                f"validation.best_by is {best_by}, but data.regions is {list(self.data.regions)}: no "
                f"{region.removesuffix('s')} is ever measured; add {region} to data.regions, or use best_by: "
                "psnr"
            )
        if self.validation.every and best_by == "identity" and self.validation.face_model is None:
            raise ValueError(
                "validation.best_by is identity, but validation.face_model is not set; name an ONNX face "
                "model, or use best_by: psnr"
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
