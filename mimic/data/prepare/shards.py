"""Which videos are whose when several processes or machines prepare one folder together.

Every process that torchrun or `accelerate launch` starts has its rank in the environment and takes its share
of the videos; all write to one folder. The first makes the index when everybody's notes are there.
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
"""How long the first waits without anything new from the others."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is; alone it is the first of one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    num_local: int = 1
    """Processes on this machine, which share its cores."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def num_workers(self) -> int:
        """Processes that this one may start so that all cores of the machine are used once."""
        return max(1, available_cores() // self.num_local)


def place_of(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that torchrun or `accelerate launch` wrote into the environment.

    Raises:
        DataError: it makes no sense.
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
            f"the environment has RANK={place.rank} and WORLD_SIZE={place.world_size}; a rank is less than "
            "the size. Unset both to prepare in one process"
        )
    return place


def share(sources: Sequence[Source], place: Place) -> list[Source]:
    """This process's videos: the largest first, each to whoever has the fewest bytes so far."""
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
    """Return when nothing of any video is left to do.

    Args:
        progress: called with (videos that are finished, videos).

    Raises:
        DataError: nothing new has come for too long.
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
                f"nothing has come from the other processes for {patience_seconds / 60:.0f} minutes; "
                f"{len(left)} videos are not finished, the first {left[0].video}. Do all of them see the "
                f"folder {notes.data}? Start again: it goes on where it was"
            )
        time.sleep(_POLL_SECONDS)
