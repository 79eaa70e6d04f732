"""Run the work of `mimic prepare` in several processes, each on one thread.

Worker processes end when their parent ends, even if it is killed, and immediately if it is interrupted.
"""

from __future__ import annotations

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
        WorkerError: a process died; finished work is kept.
    """
    if not items:
        return
    num_workers = min(num_workers, len(items))
    if num_workers == 1:
        _run_here(job, items, progress)
    else:
        _run_in_processes(job, items, num_workers, progress)


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


def _run_here(job: Job, items: Sequence[WorkItem], progress: CountProgress) -> None:
    num_frames = num_items = 0

    def tick(num_more: int) -> None:
        nonlocal num_frames
        num_frames += num_more
        progress(num_frames, num_items)

    worker = Worker(job, tick)
    for item in items:
        _do(worker, item)
        num_items += 1
        progress(num_frames, num_items)


def _run_in_processes(job: Job, items: Sequence[WorkItem], num_workers: int, progress: CountProgress) -> None:
    context = multiprocessing.get_context(start_method())
    counter = context.Value("q", 0)
    # A pipe becomes readable for all processes; unlike an event, it does not wait for processes that may be
    # dead.
    stop, say_stop = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_start, initargs=(job, counter, stop)
    )
    futures: dict[Future[None], WorkItem] = {}
    try:
        futures |= {pool.submit(_do_there, item): item for item in items}
        left = set(futures)
        while left:
            finished, left = wait(left, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            # Read without the lock, which a crashed process may hold forever.
            progress(counter.get_obj().value, len(futures) - len(left))
    except BrokenProcessPool as error:
        at_work = [source.video for future, (source, _) in futures.items() if _was_at_work(future)]
        raise WorkerError(
            f"a process died (out of memory, or a crash in a decoder) at one of: {', '.join(at_work[:8])}. "
            "Rerun the command with fewer workers to resume; if it dies again, remove that video"
        ) from error
    except BaseException:
        say_stop.send_bytes(b"stop")
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _was_at_work(future: Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is not None


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
    source, parts = item
    if parts is None:
        worker.survey(source)
    else:
        worker.poses(source, parts)
