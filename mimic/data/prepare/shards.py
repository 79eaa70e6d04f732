"""Divide the videos among several processes or machines that prepare one folder together.

Every process started by torchrun or `accelerate launch` reads its rank from the environment and processes its
share of the videos; all write to one folder. Rank 0 writes the index when the notes of all ranks are there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mimic.data.index import DataError
from mimic.data.prepare.notes import Notes
from mimic.data.prepare.sources import Source
from pose.session import available_cores

PATIENCE_SECONDS = 3600.0
"""Time in seconds that rank 0 waits without new notes from the other ranks."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """Rank of this process and number of processes; by default a single process."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    num_local: int = 1
    """Number of processes on this machine, which share its cores."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def num_workers(self) -> int:
        """Return the number of workers that this process may start so that each core runs one."""
        return max(1, available_cores() // self.num_local)


def place_of(environment: Mapping[str, str] = os.environ) -> Place:
    """Read the place from the environment variables set by torchrun or `accelerate launch`.

    Raises:
        DataError: the variables are invalid.
    """
    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    values = []
    for name, usual in names.items():
        text = environment.get(name, str(usual))
        if not text.isdecimal():
            raise DataError(f"the environment has {name}={text!r}; expected a number, as torchrun sets it")
        values.append(int(text))
    place = Place(*values)
    if place.rank >= place.world_size or place.num_local < 1:
        raise DataError(
            f"the environment has RANK={place.rank} and WORLD_SIZE={place.world_size}; RANK has to be less "
            "than WORLD_SIZE. Unset both to prepare in one process"
        )
    return place


def share(sources: Sequence[Source], place: Place) -> list[Source]:
    """Return this process's videos; in order of size, each video goes to the process with the fewest
    bytes."""
    loads = [0] * place.world_size
    mine = []
    for source in sorted(sources, key=lambda source: (-source.num_bytes, source.video)):
        rank = loads.index(min(loads))
        loads[rank] += max(1, source.num_bytes)
        if rank == place.rank:
            mine.append(source)
    return mine


def wait_for_all(
    notes: Notes,
    sources: Sequence[Source],
    *,
    progress: Callable[[int, int], None],
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Wait until the work on all videos is finished.

    Args:
        notes: notes of the prepared folder.
        sources: all videos.
        progress: called with the numbers of finished videos and of all videos.
        patience_seconds: maximum time without new notes.

    Raises:
        DataError: there were no new notes for `patience_seconds`.
    """
    left = list(sources)
    last_news, news_before = time.monotonic(), (-1, -1)
    while True:
        left = [source for source in left if not notes.is_finished(source)]
        progress(len(sources) - len(left), len(sources))
        if not left:
            return
        news = (len(left), sum(notes.count(source) for source in left))
        if news != news_before:
            last_news, news_before = time.monotonic(), news
        elif time.monotonic() - last_news > patience_seconds:
            raise DataError(
                f"no results from other processes for {patience_seconds / 60:.0f} min; {len(left)} videos "
                f"are not finished, the first is {left[0].video}. Check that all processes can access the "
                f"folder {notes.data}, and rerun the command to resume"
            )
        time.sleep(_POLL_SECONDS)
