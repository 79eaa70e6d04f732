"""Run independent tasks on a Ray cluster: the one that `RAY_ADDRESS` names, or the cores of this machine.

A worker loads what its tasks need once and does one task at a time. A task whose worker dies (its process or
its machine) is given to a new worker. All machines see the same files under the same paths.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

ATTEMPTS = 3
"""How often a task is begun: a task whose workers die each time is likely to be their death."""


MOST_HERE, MOST_A_CORE = 32, 4
"""Workers that may be asked for on one machine: so many in any case, or so many for each core."""


class ClusterError(OSError):
    """There is no Ray, no cluster at the address, or no worker that survives a task."""


class Cluster:
    """A connected Ray cluster.

    Attributes:
        num_cpus, num_gpus: that Ray knows of, on all machines.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        resources = ray.cluster_resources()
        self.num_cpus, self.num_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))

    def run(
        self,
        make_worker: Callable[[], Callable[[TaskT], ResultT]],
        tasks: Sequence[TaskT],
        *,
        num_workers: int,
        needs_gpu: bool = False,
        finished: Callable[[TaskT, ResultT], None],
        lost: Callable[[TaskT, ClusterError], None],
    ) -> None:
        """Run all tasks; returns when each has a result or is lost.

        Args:
            make_worker: called once in every worker; returns the function that does a task. Pickled.
            tasks: pickled. Two workers never have the same task at a time.
            num_workers: the number of workers, each with one core, or one GPU.
            needs_gpu: give every worker a GPU of its own, which it sees as ``cuda:0``.
            finished: called here with each task and its result, in the order in which they end.
            lost: called with a task whose workers died `ATTEMPTS` times.

        Raises:
            ClusterError: the cluster has no such worker.
            whatever `make_worker` or a task raises; the other workers are stopped.
        """
        most = self.num_gpus if needs_gpu else self.num_cpus
        if most < 1:
            raise ClusterError(f"the Ray cluster has no {'GPU' if needs_gpu else 'CPU'} for a worker")
        ray = self._ray
        kind = ray.remote(num_cpus=0 if needs_gpu else 1, num_gpus=1 if needs_gpu else 0, max_restarts=0)(
            _Actor
        )
        waiting = collections.deque(range(len(tasks)))
        attempts: collections.Counter[int | None] = collections.Counter()
        workers: list[Any] = []
        # By what Ray calls when it is done: the worker, and its task; None while the worker starts, which
        # lasts until a machine has room for it.
        at_work: dict[Any, tuple[Any, int | None]] = {}

        def start_worker() -> None:
            workers.append(kind.remote(os.getcwd(), make_worker))
            at_work[workers[-1].is_there.remote()] = workers[-1], None

        try:
            for _ in range(min(num_workers, most, len(tasks))):
                start_worker()
            while waiting or any(number is not None for _, number in at_work.values()):
                (done, *_), _ = ray.wait(list(at_work), num_returns=1)
                worker, number = at_work.pop(done)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:  # the worker or its machine is gone
                    told = f"{ATTEMPTS} times ({' '.join(str(error).split())})"
                    if number is None:
                        attempts[None] += 1
                        if attempts[None] == ATTEMPTS:
                            raise ClusterError(f"a worker could not be started {told}") from error
                    elif attempts[number] < ATTEMPTS:
                        waiting.appendleft(number)
                    else:
                        lost(tasks[number], ClusterError(f"its worker died {told}; is memory full?"))
                    start_worker()
                    continue
                if number is None:
                    attempts.pop(None, None)
                else:
                    finished(tasks[number], result)
                if waiting:
                    number = waiting.popleft()
                    attempts[number] += 1
                    at_work[worker.do.remote(tasks[number])] = worker, number
        finally:
            for worker in workers:
                ray.kill(worker)


class _Actor(Generic[TaskT, ResultT]):
    """The worker's process."""

    def __init__(self, folder: str, make_worker: Callable[[], Callable[[TaskT], ResultT]]) -> None:
        self._folder, self._make_worker = folder, make_worker
        self._worker: Callable[[TaskT], ResultT] | None = None

    def is_there(self) -> None:
        """Return as soon as the process runs."""

    def do(self, task: TaskT) -> ResultT:
        """Do a task; the first one makes the worker, so that its errors reach the caller as such."""
        if self._worker is None:
            try:
                os.chdir(self._folder)
            except OSError as error:
                raise ClusterError(
                    f"a machine of the cluster has no folder {self._folder}; run the command in a folder "
                    "that all of them share"
                ) from error
            self._worker = self._make_worker()
        return self._worker(task)


@contextlib.contextmanager
def connected_cluster(num_workers: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster of `RAY_ADDRESS`, or start one on this machine for as long as the context lasts.

    A connection that the program has made itself is used, and left open.

    Args:
        num_workers: how many workers a cluster on this machine needs to have; None: one for each core.

    Raises:
        ClusterError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError("Ray is not installed: pip install 'mimic-motion[cluster]'") from error
    if ray.is_initialized():
        yield Cluster(ray)
        return
    address = os.environ.get("RAY_ADDRESS")
    chosen: dict[str, Any] = {"address": address}
    if not address:
        num_cores = os.cpu_count() or 1
        if num_workers is not None and num_workers > max(MOST_HERE, MOST_A_CORE * num_cores):
            raise ClusterError(
                f"the number of workers is {num_workers}, and this machine has {num_cores} cores; expected "
                f"at most {max(MOST_HERE, MOST_A_CORE * num_cores)}, or a cluster at RAY_ADDRESS"
            )
        num_cpus = None if num_workers is None else max(num_workers, num_cores)
        chosen = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}
    try:
        ray.init(**chosen, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        text = str(error).split("\n")[0]
        raise ClusterError(f"Ray does not start {where}: {text}") from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()
