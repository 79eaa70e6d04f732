"""In which precision does each part compute, and how many frames does the window have that is trained?

Resolved once; training, encoding, validation and export all read it. Trained weights, optimiser and objective
are float32; the trained networks compute in `precision` (autocast); frozen networks in `frozen_dtype`.

Legend: F frames of a sample, T frames that the model sees together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mimic.data.batch import EncodedBatch
from mimic.families.base import AnimationPipeline
from mimic.families.task import TrainingTask
from mimic.training.settings import TrainSettings

_ENCODED_TOGETHER = 4  # about 3 GB at 576 x 1024 in bf16, less than a training step
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Policy:
    """What computes in which precision."""

    compute: torch.dtype
    """Of the networks that are trained: float32, or what autocast takes."""
    frozen: torch.dtype
    """Of the weights of networks, and parts of networks, that are not trained."""
    encoded_together: int = 1
    """Pictures that the VAE encodes together in training."""

    @property
    def casts_networks(self) -> bool:
        """Whether frozen weights inside the networks that are trained are cast: autocast has to run them."""
        return torch.float32 not in (self.frozen, self.compute)

    def dtype_of(self, module: nn.Module) -> torch.dtype:
        """The precision of a frozen network. A VAE that overflows in float16 (`force_upcast` in its config)
        keeps float32."""
        is_overflowing = getattr(getattr(module, "config", None), "force_upcast", False)
        return torch.float32 if self.frozen == torch.float16 and is_overflowing else self.frozen


def resolve(settings: TrainSettings, device: torch.device) -> Policy:
    """The policy of a training on `device`."""
    name = settings.frozen_dtype
    if name == "auto":
        name = "bf16" if settings.precision == "bf16" and device.type == "cuda" else "fp32"
    # On the CPU, one at a time is as fast, and a clip has the same bits in every batch.
    together = 1 if device.type == "cpu" else _ENCODED_TOGETHER
    return Policy(compute=DTYPES[settings.precision], frozen=DTYPES[name], encoded_together=together)


def cast_frozen(task: TrainingTask, policy: Policy, *, is_divided: bool) -> bool:
    """Cast what is not trained.

    Args:
        is_divided: several processes hold parts of each network (FSDP2, DeepSpeed); all weights of a network
            then have to be of one dtype, and its frozen ones stay as they are.

    Returns:
        whether any weight is less exact now than in the model that it came from.
    """
    if policy.frozen == torch.float32:
        return False
    for module in task.frozen.values():
        cast(module.parameters(), policy.dtype_of(module))
        cast(module.buffers(), policy.dtype_of(module))
    if policy.casts_networks and not is_divided:
        frozen = (parameter for parameter in task.model.parameters() if not parameter.requires_grad)
        # Norms and biases stay: they are small, and autocast computes norms in float32.
        cast((parameter for parameter in frozen if parameter.ndim > 1), policy.frozen)
    return True


def cast(tensors: Iterable[Tensor], dtype: torch.dtype) -> None:
    """Give tensors of floating point another precision, in place."""
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def as_float(batch: EncodedBatch) -> EncodedBatch:
    """The batch with whatever networks of less precision encoded in float32, as the objective takes it."""
    changes: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            changes[field.name] = value.float()
    return replace(batch, **changes)


@contextmanager
def as_in_training(model: nn.Module, accelerator: Any) -> Iterator[None]:
    """In here the networks inside `model` compute under the engine's autocast when they are called one by
    one, as a pipeline does; within a training step `model` as a whole is."""
    networks = list(model.children()) if accelerator.mixed_precision != "no" else []
    before = [network.__dict__.get("forward") for network in networks]
    for network in networks:
        network.forward = _within(accelerator, network.forward)
    try:
        yield
    finally:
        for network, own in zip(networks, before):
            del network.forward
            if own is not None:
                network.forward = own


def _within(accelerator: Any, forward: Any) -> Any:
    def under_autocast(*args: Any, **kwargs: Any) -> Any:
        with accelerator.autocast():
            return forward(*args, **kwargs)

    return under_autocast


def set_window(pipeline: AnimationPipeline[Any, Any], objective: Any, *, num_frames: int) -> int | None:
    """Make the trained window the pipeline's default, and neighbours' overlap no longer than fits.

    The defaults are written into `mimic.json`: the window travels with the weights.

    Args:
        pipeline: whose networks are trained.
        objective: the family's settings.
        num_frames: F.

    Returns:
        T; None where single pictures are trained, which leaves the defaults as they are.
    """
    is_of_pictures = getattr(objective, "stage", None) == 1
    # Where frame 0 is the reference's own, the model sees one frame more than the sample has.
    window = num_frames + bool(getattr(objective, "with_reference_frame", False))
    if is_of_pictures or window < 2:
        return None
    overlap = min(pipeline.default("tile_overlap"), window - 1)
    pipeline.generation_defaults = pipeline.generation_defaults | {
        "tile_size": window,
        "tile_overlap": overlap,
    }
    return window
