"""Samples, each made from one clip, and the batches of them that a training step takes.

Pictures and pose maps travel as uint8 and are normalised on arrival (`mimic.data.transforms.as_pixels`).
A sample has either pixels or, from a cache, what the frozen networks made of them.

Legend: B batch, F target frames, C latent channels, H x W pixels, h x w latents, D width of image embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class _Tensors:
    """A dataclass of tensors, dictionaries of tensors, and other values, which stay."""

    pose_maps: Tensor

    @property
    def num_frames(self) -> int:
        """Number of target frames, F."""
        return self.pose_maps.shape[-4] - 1

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self.pose_maps.shape[-2]

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self.pose_maps.shape[-1]

    @property
    def num_bytes(self) -> int:
        """Size of all tensors."""
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        tensors = [
            each for value in values for each in (value.values() if isinstance(value, dict) else [value])
        ]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the same with all tensors on `device`."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the same in page-locked memory; `DataLoader` calls this."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        changes: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = change(value)
            elif isinstance(value, dict):
                changes[field.name] = {name: change(tensor) for name, tensor in value.items()}
        return replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class Sample(_Tensors):
    """A clip and its reference, cropped and resized in the same way; tensors are on the CPU.

    Pictures and pose maps are uint8, or floating point in [-1, 1].
    """

    frames: Tensor
    """Frames to be generated, ``F x 3 x H x W`` RGB."""
    reference: Tensor
    """Reference picture from the same video, ``3 x H x W`` RGB."""
    pose_maps: Tensor
    """Pose maps, ``(F + 1) x 3 x H x W`` RGB; map 0 is the reference's."""
    masks: dict[str, Tensor]
    """For each region (hands, face, ...), the share of each latent pixel that it covers,
    ``(F + 1) x 1 x h x w`` in [0, 1]."""
    key: str
    """Names the clip and its frames in messages."""


@dataclass(frozen=True)
class EncodedSample(_Tensors):
    """A clip and its reference as a cache holds them: no pixels, but latents and image embedding."""

    latents: Tensor
    """Latents of the frames, ``F x C x h x w``: mode of the posterior, not scaled."""
    reference_latents: Tensor
    """Latents of the reference, ``C x h x w``."""
    image_embedding: Tensor
    """Image embedding of the reference, ``D``; of width 0 if the family uses none."""
    pose_maps: Tensor
    masks: dict[str, Tensor]
    key: str
    reference: Tensor | None = None
    """Pixels of the reference, only for objectives that add noise to them; else None."""


@dataclass(frozen=True)
class RawBatch(_Tensors):
    """Stacked samples of equal size: the fields of `Sample` with a leading dimension ``B``."""

    frames: Tensor
    reference: Tensor
    pose_maps: Tensor
    masks: dict[str, Tensor]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class EncodedBatch(_Tensors):
    """What a model trains on: the fields of `EncodedSample` with a leading dimension ``B``.

    `TrainingTask.encode` makes it of a `RawBatch`, and normalises the pose maps of one from a cache.
    """

    latents: Tensor
    reference_latents: Tensor
    image_embedding: Tensor
    pose_maps: Tensor
    masks: dict[str, Tensor]
    keys: tuple[str, ...]
    reference: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)


def with_references(pictures_BP: Tensor, number: int) -> Tensor:
    """Order the pictures of each clip `number` times: as they are, then with picture 1, 2, ... as the first.

    Args:
        pictures_BP: anything of the reference and the frames, ``B x (F + 1) x ...``, the reference's first.
        number: of orders, at most F + 1. In order k, picture k and the reference have changed places.

    Returns:
        ``(B * number) x (F + 1) x ...``, all orders of a clip in a row.
    """
    num_pictures = pictures_BP.shape[1]
    orders = torch.arange(num_pictures, device=pictures_BP.device).repeat(number, 1)
    chosen = torch.arange(number, device=pictures_BP.device)
    orders[chosen, chosen], orders[:, 0] = 0, chosen
    return pictures_BP[:, orders].flatten(0, 1)


AnySample: TypeAlias = Sample | EncodedSample
Batch: TypeAlias = RawBatch | EncodedBatch


def collate(samples: Sequence[AnySample]) -> Batch:
    """Stack samples to a batch, on the device that they are on.

    Raises:
        ValueError: there is no sample, they differ in size or regions, or only some are encoded.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    kind = type(samples[0])
    if any(type(sample) is not kind for sample in samples):
        raise ValueError(f"only some samples are encoded: {', '.join(s.key for s in samples)}")
    stacked: dict[str, Any] = {}
    for name in (field.name for field in fields(kind) if field.name not in ("masks", "key")):
        values = [getattr(sample, name) for sample in samples]
        if all(value is None for value in values):
            continue
        if any(value is None for value in values):
            raise ValueError(f"only some samples have {name}: {', '.join(s.key for s in samples)}")
        if len({value.shape for value in values}) > 1:
            shapes = ", ".join(f"{sample.key} {tuple(v.shape)}" for sample, v in zip(samples, values))
            raise ValueError(f"{name} differ in shape: {shapes}")
        stacked[name] = torch.stack(values)
    if len({tuple(sorted(sample.masks)) for sample in samples}) > 1:
        raise ValueError("samples differ in their regions")
    stacked["masks"] = {
        name: torch.stack([sample.masks[name] for sample in samples]) for name in samples[0].masks
    }
    keys = tuple(sample.key for sample in samples)
    return RawBatch(keys=keys, **stacked) if kind is Sample else EncodedBatch(keys=keys, **stacked)
