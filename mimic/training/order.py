"""Which clips a step is given, and which random numbers: functions of (seed, step), so that nothing has to be
remembered and the number of processes changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

Place = tuple[int, int]
"""Epoch and number of a clip."""


def places_of_step(step: int, *, num_clips: int, batch_size: int, seed: int) -> list[Place]:
    """The global batch of a step: every epoch is a permutation of all clips, one epoch follows the other.

    Args:
        step: counted from 0.
        batch_size: clips a step over all processes; may exceed `num_clips`.
    """
    orders: dict[int, np.ndarray] = {}
    places = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, number = divmod(position, num_clips)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, epoch]).permutation(num_clips)
        places.append((epoch, int(orders[epoch][number])))
    return places


def own_numbers(micro_step: int, *, batch_size: int, accumulate: int, rank: int, num_ranks: int) -> range:
    """Which numbers of the global batch a process takes in one of its `accumulate` passes.

    Each process has one contiguous part of the batch, and each pass one contiguous part of that.
    """
    size = batch_size // (num_ranks * accumulate)
    first = (rank * accumulate + micro_step) * size
    return range(first, first + size)


def seed_of(seed: int, step: int, what: int | str) -> int:
    """A seed for everything random of `what` (a number in the global batch, or a name) in a step."""
    digest = hashlib.sha256(f"{seed}/{step}/{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits


def generator_of(seed: int, step: int, number: int) -> torch.Generator:
    """The generator of one sample in one step."""
    return torch.Generator().manual_seed(seed_of(seed, step, number))


class Order(Sampler[list[Place]]):
    """The clips of one process, pass after pass, from `first_step` to `last_step`: for a `DataLoader`."""

    def __init__(
        self,
        *,
        num_clips: int,
        batch_size: int,
        accumulate: int,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._order = {"num_clips": num_clips, "batch_size": batch_size, "seed": seed}
        self._share = {
            "batch_size": batch_size,
            "accumulate": accumulate,
            "rank": rank,
            "num_ranks": num_ranks,
        }
        self._steps = range(first_step, last_step)
        self._accumulate = accumulate

    def __len__(self) -> int:
        return len(self._steps) * self._accumulate

    def __iter__(self) -> Iterator[list[Place]]:
        for step in self._steps:
            places = places_of_step(step, **self._order)
            for micro_step in range(self._accumulate):
                yield [places[number] for number in own_numbers(micro_step, **self._share)]
