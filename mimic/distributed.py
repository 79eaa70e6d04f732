"""Share the work on one clip among the processes that torchrun or accelerate launch has started.

Pieces of work (windows of a step, chunks of the decoder) are computed by the processes in turn, and every
process gets all results in their order. What is done with them is then the same as in a single process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

_TIMEOUT = timedelta(hours=12)
"""Longer than any stage in which the others wait for the first process, such as the estimation of poses."""


class RankError(RuntimeError):
    """Another process of the run has ended."""


class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: number of this process.
        size: number of all processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    @property
    def is_first(self) -> bool:
        """Whether this process reads and writes files and prints."""
        return self.rank == 0

    def in_order(
        self,
        num_pieces: int,
        compute: Callable[[int], Tensor],
        like: Callable[[int], tuple[tuple[int, ...], torch.dtype, torch.device]],
    ) -> Iterator[Tensor]:
        """Yield the results of all pieces of work in order; each is computed by one process.

        Args:
            num_pieces: number of pieces.
            compute: computes a piece.
            like: shape, dtype and device of the result of a piece.

        Raises:
            RankError: another process has ended.
        """
        for first in range(0, num_pieces, self.size):
            pieces = range(first, min(first + self.size, num_pieces))
            own = compute(first + self.rank) if first + self.rank in pieces else None
            for rank, piece in enumerate(pieces):
                shape, dtype, device = like(piece)
                result = own if rank == self.rank else None
                if result is None:
                    result = torch.empty(shape, dtype=dtype, device=device)
                result = result.to(device).contiguous()
                with _explained():
                    dist.broadcast(result, src=rank)
                yield result

    def from_first(self, content: Any) -> Any:
        """Return what the first process passes; others pass anything.

        Raises:
            RankError: another process has ended.
        """
        holder = [content]
        with _explained():
            dist.broadcast_object_list(holder, src=0)
        return holder[0]

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Run the body in the first process, then in the others."""
        with _explained():
            if not self.is_first:
                dist.barrier()
        yield
        with _explained():
            if self.is_first:
                dist.barrier()


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks | None]:
    """Join the processes that a launcher has started; yields None if there is only one.

    Each process takes the GPU of its number on the machine, if there are GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    is_ours = not dist.is_initialized()
    if is_ours:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield Ranks()
    finally:
        if is_ours:
            dist.destroy_process_group()


def local_rank() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        rank = os.environ.get("RANK", "?")
        raise RankError(
            f"another process of this run has ended, and rank {rank} cannot continue; the first error in the "
            f"output says why ({str(error).splitlines()[0]})"
        ) from error
