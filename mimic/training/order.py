"""Choose the clips and random numbers of a step: functions of (seed, step), so that no state has to be saved
and results do not depend on the number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

Place = tuple[int, int]
"""Epoch and number of a clip."""
_BUCKETS = 1  # keeps the random numbers of buckets apart from others


def places_of_step(step: int, *, num_clips: int, batch_size: int, seed: int) -> list[Place]:
    """The global batch of a step: every epoch is a permutation of all clips, one epoch follows the other.

    Args:
        step: counted from 0.
        num_clips: number of clips.
        batch_size: clips a step over all processes; may exceed `num_clips`.
        seed: of the permutations.
    """
    return _places(step, range(num_clips), batch_size, [seed])


def bucket_of_step(step: int, *, buckets: Sequence[Sequence[int]], seed: int) -> int:
    """The number of the bucket that a step's batch comes from, in proportion to the buckets' clips."""
    if len(buckets) == 1:
        return 0
    sizes = np.array([len(bucket) for bucket in buckets], float)
    return int(np.random.default_rng([seed, step, _BUCKETS]).choice(len(buckets), p=sizes / sizes.sum()))


def _places(number: int, clips: Sequence[int], batch_size: int, key: list[int]) -> list[Place]:
    """Batch number `number` of some clips."""
    orders: dict[int, np.ndarray] = {}
    places = []
    for position in range(number * batch_size, (number + 1) * batch_size):
        epoch, place = divmod(position, len(clips))
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([*key, epoch]).permutation(len(clips))
        places.append((epoch, clips[int(orders[epoch][place])]))
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
    """The clips of one process, pass after pass, from `first_step` to `last_step`: for a `DataLoader`.

    Args:
        buckets: indices of clips that may share a batch; with one bucket, batches are `places_of_step`.
        batch_size, accumulate, seed: of the training.
        first_step, last_step: steps, counted from 0, the last excluded.
        rank, num_ranks: of the process.
    """

    def __init__(
        self,
        *,
        buckets: Sequence[Sequence[int]],
        batch_size: int,
        accumulate: int,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._buckets, self._batch_size, self._seed = buckets, batch_size, seed
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
        num_batches = [0] * len(self._buckets)
        for step in range(self._steps.stop):
            bucket = bucket_of_step(step, buckets=self._buckets, seed=self._seed)
            num_batches[bucket] += 1
            if step not in self._steps:
                continue
            key = [self._seed] if len(self._buckets) == 1 else [self._seed, bucket, _BUCKETS]
            places = _places(num_batches[bucket] - 1, self._buckets[bucket], self._batch_size, key)
            for micro_step in range(self._accumulate):
                yield [places[number] for number in own_numbers(micro_step, **self._share)]
