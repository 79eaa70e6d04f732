"""How many processes train together, on what, in which precision? accelerate, told by settings and launcher.

`accelerate launch` and torchrun say through the environment how many processes there are and whether they
share the weights out (FSDP2) or the optimiser's state (DeepSpeed); the settings say the rest.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from mimic.config.loading import ConfigError
from mimic.data.batch import Batch
from mimic.families.task import Draws
from mimic.models.offload import offloaded
from mimic.training.settings import TrainSettings
from mimic.training.trackers import check_tracker

_BLOCK = re.compile(r"\b(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.\w+\.\d+$")
"""Names of a UNet's residual blocks, transformers and motion modules."""
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers write how many processes they have started."""
_LISTED = 5
_FSDP2 = "`mimic configs accelerate/fsdp2` writes a file for it"
_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class EngineModel(nn.Module):
    """Wrap a task's model so that it returns plain tensors, which every engine recognises.

    Args:
        model: returns a `Loss` for (batch, draws).
        is_offloading: keep activations saved for the backward pass in main memory.
        autocast: dtype of autocast around the forward pass; None where the engine applies it, or in float32.
    """

    def __init__(
        self, model: nn.Module, *, is_offloading: bool = False, autocast: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.is_offloading = is_offloading
        self.autocast = autocast
        # Where FSDP asks which layers it should gather by themselves.
        self._no_split_modules = sorted(
            {type(module).__name__ for name, module in model.named_modules() if _BLOCK.search(name)}
        )

    def forward(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        device = batch.pose_maps.device.type
        with (
            nullcontext() if self.autocast is None else torch.autocast(device, self.autocast),
            offloaded(self.model) if self.is_offloading else nullcontext(),
        ):
            loss = self.model(batch, draws)
        return loss.total, loss.terms, loss.by_sample


def check_engine(settings: TrainSettings) -> None:
    """Raise `ConfigError` for what the launcher or the settings ask and this machine or mimic cannot do."""
    if _is_asked("ACCELERATE_USE_DEEPSPEED") and find_spec("deepspeed") is None:
        raise ConfigError(
            "the launcher asks for DeepSpeed, which is not installed; `pip install deepspeed`, or use FSDP2, "
            f"which needs nothing more and shares out even the weights ({_FSDP2})"
        )
    if _is_asked("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            f"the launcher asks for the first version of FSDP; set fsdp_version: 2 in its file ({_FSDP2})"
        )
    if settings.tracker is not None:
        check_tracker(settings.tracker)
    if settings.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("precision is fp16, which needs a CUDA device; use bf16 or fp32 here")
    if (
        settings.precision == "bf16"
        and torch.cuda.is_available()
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError("precision is bf16, which this GPU does not compute; use fp16 or fp32")
    if settings.optimiser.name == "adamw_8bit" and _is_asked("ACCELERATE_USE_FSDP"):
        raise ConfigError(
            "optimiser.name is adamw_8bit, which cannot step weights that FSDP2 shares out; use adamw, whose "
            "state FSDP2 shares out as well, or launch with DDP (`mimic configs accelerate/ddp` writes a "
            "file for it)"
        )
    if settings.optimiser.name == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise ConfigError(
            "optimiser.name is adamw_8bit, which needs bitsandbytes; `pip install bitsandbytes` (if there is "
            "none for this system, use adamw)"
        )


def make_accelerator(settings: TrainSettings) -> Any:
    """The `Accelerator` of a training.

    Raises:
        ConfigError: see `check_engine`; the launcher's processes would not train together; or the batch
            cannot be divided by them.
    """
    check_engine(settings)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    # accelerate keeps its settings for the life of the process; another training may have other ones.
    AcceleratorState._reset_state()
    launched = launched_processes()
    if launched > 1 and "RANK" not in os.environ and "LOCAL_RANK" not in os.environ and not _is_mpi():
        raise ConfigError(
            f"the launcher started {launched} processes ({_SIZES[0]}), but 1 would train together: the "
            "environment does not say which one this is (RANK). Unset WORLD_SIZE, or launch with `accelerate "
            "launch` or torchrun"
        )
    accelerator = Accelerator(
        log_with=settings.tracker,
        project_dir=None if settings.tracker is None else str(settings.output_dir),
        # Without a GPU accelerate sees several processes only when its CPU flag is set.
        cpu=launched > 1 and not _has_accelerator(),
        mixed_precision=_PRECISIONS[settings.precision],
        gradient_accumulation_steps=settings.accumulate,
        kwargs_handlers=[
            # Dropped conditions leave gradients of zero, so that none is ever missing; see
            # `check_gradients`. Gradients are views of the buckets: they are in memory once.
            DistributedDataParallelKwargs(find_unused_parameters=False, gradient_as_bucket_view=True),
            # While one process writes a large model the others wait.
            InitProcessGroupKwargs(timeout=timedelta(hours=2)),
        ],
        step_scheduler_with_optimizer=False,
    )
    if accelerator.num_processes != launched:
        raise ConfigError(
            f"the launcher started {launched} processes ({_SIZES[0]}), but {accelerator.num_processes} would "
            f"train together on {accelerator.device}, the others by themselves in the same output_dir; start "
            "one with `mimic train …`, or launch as many as there are GPUs with `accelerate launch`"
        )
    _keep_group()
    _configure_fsdp(accelerator)
    passes = accelerator.num_processes * settings.accumulate
    if settings.batch_size % passes:
        raise ConfigError(
            f"batch_size is {settings.batch_size}, to be divided by {accelerator.num_processes} processes "
            f"and {settings.accumulate} passes of each; give a multiple of {passes}"
        )
    _configure_deepspeed(accelerator, settings)
    return accelerator


_GROUPS: list[Any] = []
"""The process group of the last training, held until the next one or until Python ends."""

atexit.register(_GROUPS.clear)


def _keep_group() -> None:
    """Hold the process group so that the model wrapped for DDP is not the last to let it go.

    Freeing a group waits for its thread, and that thread needs Python's lock to free what it reduced. Python
    frees a group without the lock; DDP's reducer frees it while it holds the lock, and both wait for ever.
    """
    _GROUPS.clear()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _GROUPS.append(torch.distributed.group.WORLD)


def launched_processes() -> int:
    """How many processes the launcher (torchrun, `accelerate launch`, MPI) says there are; 1 without any.

    Raises:
        ConfigError: it says no number, or starts more processes on this machine than there are GPUs.
    """
    sizes = [1]
    for name in (*_SIZES, "LOCAL_WORLD_SIZE"):
        text = os.environ.get(name, "1")
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ConfigError(f"the environment has {name}={text!r}; expected a number, as launchers set it")
        sizes.append(int(text))
    here, num_gpus = sizes.pop(), torch.cuda.device_count()
    if here > num_gpus > 0 and not _is_asked("ACCELERATE_USE_CPU"):
        raise ConfigError(
            f"the launcher started {here} processes on this machine, which has {num_gpus} "
            f"GPU{'s' * (num_gpus > 1)}; start one for each"
        )
    return max(sizes)


def _is_mpi() -> bool:
    return any(name in os.environ for name in _SIZES[1:])


def launched_here() -> int:
    """Return how many processes the launcher started on this machine; 1 without any."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def divides_networks(accelerator: Any) -> bool:
    """Whether an engine (FSDP2, DeepSpeed) regroups the weights of networks among processes."""
    return str(accelerator.distributed_type).endswith(("FSDP", "DEEPSPEED"))


def _has_accelerator() -> bool:
    if hasattr(torch, "accelerator"):
        return torch.accelerator.is_available()
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def shares_weights(parameters: Mapping[str, Tensor]) -> bool:
    """Whether each process holds a part of every weight (FSDP2). The weights know; accelerate's own note of
    it is overwritten on CPUs."""
    return any(is_sharded(parameter) for parameter in parameters.values())


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of a tensor."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _configure_fsdp(accelerator: Any) -> None:
    """Set FSDP2's precision, and enable FSDP2 on CPUs, where accelerate would replicate the weights.

    Weights are gathered in the precision that networks compute in; gradients are reduced in float32. Inputs
    stay as they are (accelerate's own policy rounds noise levels, noise and targets as well): autocast casts
    them where networks use them, as under DDP. Outputs are not cast: the loss is float32 anyway.
    """
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    if _is_asked("ACCELERATE_USE_FSDP") and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
        accelerator.state.distributed_type = DistributedType.FSDP
    if autocast_under_fsdp(accelerator) is not None:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=autocast_under_fsdp(accelerator),
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )


def autocast_under_fsdp(accelerator: Any) -> torch.dtype | None:
    """Return the dtype of the autocast that accelerate leaves out under FSDP2; None in float32 and under
    other engines."""
    if not str(accelerator.distributed_type).endswith("FSDP"):
        return None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)


def _configure_deepspeed(accelerator: Any, settings: TrainSettings) -> None:
    """DeepSpeed clips by itself and wants to know a process's batch beforehand."""
    if not is_deepspeed(accelerator):
        return
    stage = accelerator.state.deepspeed_plugin.zero_stage
    if stage > 2:
        raise ConfigError(
            f"the launcher asks for DeepSpeed's ZeRO-{stage}; ZeRO-2 is what mimic saves and resumes. To "
            f"share out the weights as well use FSDP2 ({_FSDP2})"
        )
    passes = accelerator.num_processes * settings.accumulate
    accelerator.state.deepspeed_plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": settings.batch_size // passes,
        "gradient_accumulation_steps": settings.accumulate,
        "gradient_clipping": settings.clip_norm or 0.0,
    }


def is_deepspeed(accelerator: Any) -> bool:
    """Whether DeepSpeed does the steps."""
    return str(accelerator.distributed_type).endswith("DEEPSPEED")


def make_optimiser(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings, *, is_fused: bool = False
) -> torch.optim.Optimizer:
    """AdamW over parameters, with decay for those that are matrices or more.

    Args:
        parameters: by name.
        settings: of the training.
        is_fused: step all parameters in one kernel; faster on a GPU, and rounds in another way.
    """
    options = settings.optimiser
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    arguments: dict[str, Any] = {"lr": options.learning_rate, "betas": options.betas, "eps": options.eps}
    if options.name == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, **arguments)
    return torch.optim.AdamW(groups, **arguments, fused=is_fused or None)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be shared out among processes, put together (by all processes at once)."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is shared out."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def averages(values: Iterable[float | Tensor], accelerator: Any) -> list[float]:
    """The mean over processes of each number, all in one exchange and one wait for the device."""
    device = accelerator.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    tensor = torch.stack([torch.as_tensor(value, dtype=dtype, device=device) for value in values])
    return accelerator.reduce(tensor, reduction="mean").tolist()


def check_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Check after a backward pass that every trained parameter has a gradient.

    Raises:
        ConfigError: some have none, which several processes would wait for in vain; they are named.
    """
    without = [name for name, parameter in parameters.items() if parameter.grad is None]
    if without:
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        raise ConfigError(
            f"trainable: the loss does not depend on {', '.join(without[:_LISTED])}{more}, so that they "
            "cannot be trained; leave them out, for example by naming the other layers"
        )


def _is_asked(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1", "yes")
