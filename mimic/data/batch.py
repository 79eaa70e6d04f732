"""What a training step is given: samples of one clip each, and the batch that they make.

Legend: B batch, F target frames, C latent channels, H x W pixels, h x w latents, D width of image embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One clip with its reference, cut and resized alike. Everything lies on the CPU."""

    frames: Tensor
    """``F x 3 x H x W`` RGB in [-1, 1]: what is to be generated."""
    reference: Tensor
    """``3 x H x W`` RGB in [-1, 1], of the same video."""
    pose_maps: Tensor
    """``(F + 1) x 3 x H x W`` RGB in [-1, 1]; number 0 is the reference's own pose."""
    masks: dict[str, Tensor]
    """Region (hands, face, ...) to the share of each latent pixel that it covers, ``(F + 1) x 1 x h x w``."""
    key: str
    """Which clip and which frames, for messages."""
    latents: Tensor | None = None
    """``F x C x h x w``, the VAE's mode without scaling factor, where a cache holds them."""
    reference_latents: Tensor | None = None
    """``C x h x w``, likewise."""
    image_embedding: Tensor | None = None
    """``D``, likewise."""


@dataclass(frozen=True)
class Batch:
    """Samples of equal size, stacked: each field of `Sample` with ``B`` in front."""

    frames: Tensor
    reference: Tensor
    pose_maps: Tensor
    masks: dict[str, Tensor]
    keys: tuple[str, ...]
    latents: Tensor | None = None
    reference_latents: Tensor | None = None
    image_embedding: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        changes: dict[str, Any] = {"masks": {name: mask.to(device) for name, mask in self.masks.items()}}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = value.to(device)
        return replace(self, **changes)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples.

    Raises:
        ValueError: they differ in size, in regions, or only some have cached latents.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    stacked: dict[str, Any] = {}
    for name in ("frames", "reference", "pose_maps", "latents", "reference_latents", "image_embedding"):
        values = [getattr(sample, name) for sample in samples]
        if any(value is None for value in values):
            if not all(value is None for value in values):
                raise ValueError(f"only some samples have {name}: {', '.join(s.key for s in samples)}")
            stacked[name] = None
            continue
        if len({value.shape for value in values}) > 1:
            shapes = ", ".join(f"{sample.key} {tuple(v.shape)}" for sample, v in zip(samples, values))
            raise ValueError(f"{name} differ in shape: {shapes}")
        stacked[name] = torch.stack(values)
    if len({tuple(sorted(sample.masks)) for sample in samples}) > 1:
        raise ValueError("samples differ in their regions")
    stacked["masks"] = {
        name: torch.stack([sample.masks[name] for sample in samples]) for name in samples[0].masks
    }
    return Batch(keys=tuple(sample.key for sample in samples), **stacked)
