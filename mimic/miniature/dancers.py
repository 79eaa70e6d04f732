"""An infinite stream of synthetic dancers for training, rendered in the background.

Legend: N pictures of a dancer, H x W their size, h x w latents' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mimic.config.loading import Config
from mimic.dancers import (
    LEFT_HAND,
    PART_NAMES,
    RIGHT_HAND,
    World,
    render,
    sample_character,
    sample_motion,
)
from mimic.data.processes import end_with_parent, start_method
from pose.draw import draw_pose

HAND_PARTS = (LEFT_HAND, RIGHT_HAND)
HEAD_PARTS = (PART_NAMES.index("head"),)


class DancerSettings(Config):
    """Settings of the pictures of one dancer."""

    height: int = 96
    width: int = 96
    world: Literal["plain", "portraits", "rich"] = "plain"
    num_pictures: int = 6
    """Number of pictures of each dancer, each of which may be the reference of a window."""
    timing: Literal["random", "clip"] = "random"
    """Times of the pictures. `random`: random times of the motion; `clip`: picture 0 at a random time, the
    others consecutive."""
    clip_fps: float = 8.0
    canvas_short_side: int = 480
    """Short side in pixels of the canvas on which poses are drawn before they are resized to the picture."""
    noise_strength: float = 1.0
    """Maximum strength of detector noise in the poses, drawn uniformly from 0 for each dancer."""
    latent_downscale: int = 4


@dataclass(frozen=True)
class Dancer:
    """Pictures and pose maps, uint8 ``N x 3 x H x W``, and coverage of latent pixels by regions in per cent,
    uint8 ``N x 3 x h x w``."""

    pictures: Tensor
    maps: Tensor
    regions: Tensor


def make_dancer(seed: int, settings: DancerSettings) -> Dancer:
    """Render the dancer with number `seed`; the same number gives the same pictures."""
    rng = np.random.default_rng(seed)
    world = World.named(settings.world)
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=8.0)
    if settings.timing == "random":
        times = rng.uniform(0, 8.0, settings.num_pictures)
    else:
        span = (settings.num_pictures - 1) / settings.clip_fps
        start = rng.uniform(0, 8.0 - span)
        times = np.concatenate(
            [rng.uniform(0, 8.0, 1), start + np.arange(settings.num_pictures - 1) / settings.clip_fps]
        )
    clip = render(character, motion, times, settings.height, settings.width)
    poses = clip.poses
    if settings.noise_strength > 0:
        from mimic.dancers import add_detector_noise

        poses = add_detector_noise(poses, rng, strength=settings.noise_strength * rng.uniform())
    maps = draw_pose(poses, settings.height, settings.width, canvas_short_side=settings.canvas_short_side)
    parts = clip.part_ids
    regions = np.stack([parts > 0, np.isin(parts, HAND_PARTS), np.isin(parts, HEAD_PARTS)], axis=1)
    return Dancer(
        pictures=torch.from_numpy(np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2))),
        maps=torch.from_numpy(np.ascontiguousarray(maps.transpose(0, 3, 1, 2))),
        regions=_coverage(torch.from_numpy(regions), settings.latent_downscale),
    )


def _coverage(regions: Tensor, downscale: int) -> Tensor:
    """Compute the percentage of each latent pixel that a region covers, bool ``N x R x H x W`` to uint8."""
    pooled = torch.nn.functional.avg_pool2d(regions.float(), downscale)
    return (pooled * 100).round().to(torch.uint8)


class Dancers(IterableDataset[Dancer]):
    """Infinite dataset of the dancers `first_seed`, `first_seed + 1`, ..., without repetition."""

    def __init__(self, settings: DancerSettings, first_seed: int) -> None:
        self.settings = settings
        self.first_seed = first_seed

    def __iter__(self) -> Iterator[Dancer]:
        worker = torch.utils.data.get_worker_info()
        offset, step = (worker.id, worker.num_workers) if worker else (0, 1)
        cv2.setNumThreads(1)
        seed = self.first_seed + offset
        while True:
            yield make_dancer(seed, self.settings)
            seed += step


def stream_dancers(settings: DancerSettings, *, first_seed: int, num_workers: int = 1) -> Iterator[Dancer]:
    """Yield dancers in order, prefetched by worker processes."""
    loader = DataLoader(
        Dancers(settings, first_seed),
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=16 if num_workers else None,
        multiprocessing_context=start_method() if num_workers else None,
        worker_init_fn=_set_up_worker,
    )
    return iter(loader)


def as_network_input(pictures: Tensor | NDArray[np.uint8]) -> Tensor:
    """Convert uint8 RGB to float32 in [-1, 1]."""
    return torch.as_tensor(pictures).float() / 127.5 - 1


def _set_up_worker(_worker: int) -> None:
    end_with_parent()
