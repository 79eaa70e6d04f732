"""Run the work of `mimic prepare` in several processes, each on one thread.

Worker processes end when their parent ends, even if it is killed, and immediately if it is interrupted. A
video at which a process dies (a crash in a decoder, memory) is tried again in a separate process, and is
rejected if that dies, too; all other work goes on.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Protocol

import cv2

from mimic.cluster import Cluster
from mimic.data.prepare.notes import Notes
from mimic.data.prepare.sources import Source
from mimic.data.prepare.work import Job, Worker
from mimic.data.processes import end_with_parent, start_method

Parts = list[tuple[int, int]]
WorkItem = tuple[Source, Parts | None]
"""A video, and the parts whose poses are to be estimated; None if it is to be surveyed."""

CountProgress = Callable[[int, int], None]


class RunItems(Protocol):
    """Processes work items; `run_items` or `run_items_on` with its workers."""

    def __call__(self, job: Job, items: Sequence[WorkItem], *, progress: CountProgress) -> None: ...


_POLL_SECONDS = 0.2
_DIED = "the process at work on it died twice, the second time alone: a crash in a decoder, or out of memory"

_worker: Worker  # the worker of a pool process


class WorkerError(ChildProcessError):
    """A worker process died: out of memory, or a crash in a decoder."""


def run_items(job: Job, items: Sequence[WorkItem], *, num_workers: int, progress: CountProgress) -> None:
    """Process all items in `num_workers` processes, or in this process if it is 1.

    Args:
        job: parameters of the work.
        items: the work items.
        num_workers: number of processes.
        progress: called repeatedly with the numbers of finished frames and items.

    Raises:
        WorkerError: processes die before they begin; finished work is kept.
    """
    if not items:
        return
    num_workers = min(num_workers, len(items))
    count = _Count(progress)
    if num_workers == 1:
        # Where a former run died in the middle of an item, nobody knows whether the item was the cause.
        suspects = [item for item in items if _has_begun(job, item)]
        _run_alone(job, suspects, count)
        others = [item for item in items if item not in suspects]
        _run_alone(job, _run_here(job, others, count), count)
        return
    for source, parts in items:
        Notes(job.data).forget_begun(source, _first(parts))
    left = list(items)
    while left:
        unfinished = _run_in_processes(job, left, num_workers, count)
        suspects = [item for item in unfinished if _has_begun(job, item)]
        if unfinished and not suspects:
            raise WorkerError("processes end before they begin to work; is memory full? Try fewer workers")
        _run_alone(job, suspects, count)
        left = [item for item in unfinished if item not in suspects]


def run_items_on(
    cluster: Cluster, job: Job, items: Sequence[WorkItem], *, num_workers: int, progress: CountProgress
) -> None:
    """As `run_items`, by the workers of a Ray cluster, which see the same folders.

    Raises:
        WorkerError: all workers of an item died; all other items are done.
    """
    num_frames = num_items = 0
    lost_videos: list[str] = []

    def finished(item: WorkItem, num_more: int) -> None:
        nonlocal num_frames, num_items
        num_frames, num_items = num_frames + num_more, num_items + 1
        progress(num_frames, num_items)

    cluster.run(
        functools.partial(_ItemWorker, job),
        items,
        num_workers=num_workers,
        needs_gpu=job.device != "cpu",
        finished=finished,
        lost=lambda item, _: lost_videos.append(item[0].video),
    )
    if lost_videos:
        raise WorkerError(
            f"workers died again and again (out of memory, or a crash in a decoder) at: "
            f"{', '.join(lost_videos[:8])}. Everything else is done; remove them, or rerun the command"
        )


class _ItemWorker:
    """Runs the steps in a worker of a cluster; returns how many frames an item had."""

    def __init__(self, job: Job) -> None:
        cv2.setNumThreads(1)
        self._num_frames = 0
        self._worker = Worker(job, self._count)

    def _count(self, num_frames: int) -> None:
        self._num_frames += num_frames

    def __call__(self, item: WorkItem) -> int:
        self._num_frames = 0
        _do(self._worker, item)
        return self._num_frames


class _Count:
    """Numbers of finished frames and items, over all processes that there have been."""

    def __init__(self, progress: CountProgress) -> None:
        self.num_frames = self.num_items = 0
        self._progress = progress

    def show(self, more_frames: int = 0, more_items: int = 0) -> None:
        """Report the numbers with those of running processes."""
        self._progress(self.num_frames + more_frames, self.num_items + more_items)


def _run_here(job: Job, items: Sequence[WorkItem], count: _Count) -> list[WorkItem]:
    """Process items in this process; returns those for which memory did not suffice."""

    def tick(num_more: int) -> None:
        count.num_frames += num_more
        count.show()

    worker, unfinished = Worker(job, tick), []
    for item in items:
        try:
            _do(worker, item)
        except MemoryError:
            unfinished.append(item)
            continue
        count.num_items += 1
        count.show()
    return unfinished


def _run_alone(job: Job, items: Sequence[WorkItem], count: _Count) -> None:
    """Process each item in a process that has nothing else to do; one at which it dies is rejected."""
    for item in items:
        source, parts = item
        notes = Notes(job.data)
        notes.forget_begun(source, _first(parts))
        if not _run_in_processes(job, [item], 1, count):
            continue
        if not _has_begun(job, item):
            raise WorkerError(f"no process can be started for {source.video}; is memory full?")
        notes.forget_begun(source, _first(parts))
        Worker(job, lambda _: None).give_up(source, parts, _DIED)
        count.num_items += 1
        count.show()


def _run_in_processes(job: Job, items: Sequence[WorkItem], num_workers: int, count: _Count) -> list[WorkItem]:
    """Process items in several processes; returns those that are unfinished because a process died."""
    context = multiprocessing.get_context(start_method())
    counter = context.Value("q", 0)
    # A pipe becomes readable for all processes; unlike an event, it does not wait for processes that may be
    # dead.
    stop, say_stop = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_start, initargs=(job, counter, stop)
    )
    futures: dict[Future[None], WorkItem] = {}
    unfinished: list[WorkItem] = []
    try:
        with contextlib.suppress(BrokenProcessPool):
            for item in items:
                futures[pool.submit(_do_there, item)] = item
        unfinished = list(items[len(futures) :])
        left = set(futures)
        while left:
            finished, left = wait(left, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    future.result()
                except (BrokenProcessPool, MemoryError):
                    unfinished.append(futures[future])
            # Read without the lock, which a crashed process may hold forever.
            num_done = len(futures) - len(left) - len(unfinished)
            count.show(counter.get_obj().value, max(0, num_done))
    except BaseException:
        say_stop.send_bytes(b"stop")
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    count.num_frames += counter.get_obj().value
    count.num_items += len(items) - len(unfinished)
    return unfinished


def _first(parts: Parts | None) -> int | None:
    return None if parts is None else parts[0][0]


def _has_begun(job: Job, item: WorkItem) -> bool:
    source, parts = item
    return Notes(job.data).has_begun(source, _first(parts))


def _start(job: Job, counter: Synchronized[int], stop: Connection) -> None:
    """Initialise a new pool process."""
    global _worker  # noqa: PLW0603 an initialiser can keep state only in a global
    for name in ("SIGINT", "SIGBREAK"):  # Ctrl-C, and Ctrl-Break on Windows: the parent stops the workers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent(stop)  # otherwise it would wait for work forever
    cv2.setNumThreads(1)

    def tick(num_frames: int) -> None:
        with counter.get_lock():
            counter.value += num_frames

    _worker = Worker(job, tick)


def _do_there(item: WorkItem) -> None:
    _do(_worker, item)


def _do(worker: Worker, item: WorkItem) -> None:
    """Do an item; its mark stays where the process dies, or its memory does not suffice."""
    source, parts = item
    worker.notes.mark_begun(source, _first(parts))
    has_ended = True
    try:
        if parts is None:
            worker.survey(source)
        else:
            worker.poses(source, parts)
    except MemoryError:
        has_ended = False
        raise
    finally:
        if has_ended:
            worker.notes.forget_begun(source, _first(parts))
