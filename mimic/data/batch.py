"""Samples, each made from one clip, and the batches of them that a training step takes.

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
    """A clip and its reference, cropped and resized in the same way; tensors are on the CPU."""

    frames: Tensor
    """Frames to be generated, ``F x 3 x H x W`` RGB in [-1, 1]."""
    reference: Tensor
    """Reference picture from the same video, ``3 x H x W`` RGB in [-1, 1]."""
    pose_maps: Tensor
    """Pose maps, ``(F + 1) x 3 x H x W`` RGB in [-1, 1]; map 0 is the reference's."""
    masks: dict[str, Tensor]
    """For each region (hands, face, ...), the share of each latent pixel that it covers,
    ``(F + 1) x 1 x h x w`` in [0, 1]."""
    key: str
    """Names the clip and its frames in messages."""
    latents: Tensor | None = None
    """Cached latents of the frames, ``F x C x h x w``: mode of the posterior, not scaled; None without a
    cache."""
    reference_latents: Tensor | None = None
    """Cached latents of the reference, ``C x h x w``; None without a cache."""
    image_embedding: Tensor | None = None
    """Cached image embedding of the reference, ``D``; None without a cache or if the family uses none."""


@dataclass(frozen=True)
class Batch:
    """Stacked samples of equal size: the fields of `Sample` with a leading dimension ``B``."""

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

    def with_references(self, number: int) -> Batch:
        """Return each clip `number` times, with its pictures 0, 1, ... as the reference, 0 as it was.

        A picture changes places with the reference, with its pose, masks and latents. All pictures are then
        encoded once and used several times. Embeddings of references are left out where there are several.

        Raises:
            ValueError: there are not as many pictures in a clip, or the batch has no latents.
        """
        if number == 1:
            return self
        if self.latents is None or self.reference_latents is None:
            raise ValueError("a batch needs latents before its references are exchanged")
        num_pictures = self.frames.shape[1] + 1
        if not 1 <= number <= num_pictures:
            raise ValueError(f"{number} references of {num_pictures} pictures")
        orders = torch.arange(num_pictures).repeat(number, 1)
        chosen = torch.arange(number)
        orders[chosen, chosen], orders[:, 0] = 0, chosen

        def exchanged(pictures: Tensor) -> Tensor:
            return torch.stack([pictures[:, order] for order in orders], dim=1).flatten(0, 1)

        frames = exchanged(torch.cat([self.reference[:, None], self.frames], dim=1))
        latents = exchanged(torch.cat([self.reference_latents[:, None], self.latents], dim=1))
        return Batch(
            frames=frames[:, 1:],
            reference=frames[:, 0],
            pose_maps=exchanged(self.pose_maps),
            masks={name: exchanged(mask) for name, mask in self.masks.items()},
            keys=tuple(key for key in self.keys for _ in range(number)),
            latents=latents[:, 1:],
            reference_latents=latents[:, 0],
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with all tensors on `device`."""
        changes: dict[str, Any] = {"masks": {name: mask.to(device) for name, mask in self.masks.items()}}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = value.to(device)
        return replace(self, **changes)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples to a batch.

    Raises:
        ValueError: there is no sample, they differ in size or regions, or only some have cached latents.
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
