"""Run the cases of a config on a Ray cluster: workers load the model once and make one case at a time."""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from mimic.cluster import Cluster, ClusterError
from mimic.config import InferenceConfig
from mimic.devices import chosen_device
from mimic.generation.cases import CaseFailure, RunResult, Work, collected, make_case, why_failed
from mimic.generation.checks import InputError
from mimic.generation.memory_mode import MemoryMode
from mimic.generation.ready import family_of, get_ready
from mimic.generation.result import GenerateResult
from mimic.progress import progress_bar


def device_on(cluster: Cluster, config: InferenceConfig) -> torch.device:
    """Return the device that a worker computes on: the only GPU that it sees, if the cluster has any."""
    if config.device == "auto":
        return torch.device("cuda" if cluster.num_gpus else "cpu")
    if config.device.startswith("cuda"):
        return torch.device("cuda")
    return chosen_device(config.device)


def run_on_cluster(
    work: Work,
    *,
    cluster: Cluster,
    num_workers: int | None,
    is_progress_shown: bool,
    say: Callable[[str], None],
) -> RunResult:
    """Run all cases of `work`; results and failures are in the order of the cases.

    Raises:
        InputError, WeightsError: no worker can load the model.
        ClusterError: the cluster has no worker of the kind needed.
    """
    family_of(work.base, work.checkpoint)
    needs_gpu = work.device.type == "cuda"
    if num_workers is None:
        num_workers = cluster.num_gpus if needs_gpu else cluster.num_cpus
    names = work.config.case_names()
    outcomes: dict[str, GenerateResult | CaseFailure] = {}
    said: set[str] = set()

    with progress_bar("cases", "case", is_shown=is_progress_shown) as progress:

        def finished(name: str, made: _Made) -> None:
            for line in made.lines:
                if line not in said:  # every worker tells what model it has loaded
                    say(line)
            said.update(made.lines)
            note(name, made.outcome)

        def lost(name: str, error: ClusterError) -> None:
            say(f"{name}: failed. {error}")
            note(name, CaseFailure(name, error))

        def note(name: str, outcome: GenerateResult | CaseFailure) -> None:
            outcomes[name] = outcome
            progress(len(outcomes), len(names))

        cluster.run(
            functools.partial(_CaseWorker, work),
            names,
            num_workers=num_workers,
            needs_gpu=needs_gpu,
            finished=finished,
            lost=lost,
        )
    return collected(outcomes[name] for name in names)


@dataclass(frozen=True)
class _Made:
    """What a worker sends back of a case."""

    outcome: GenerateResult | CaseFailure
    lines: tuple[str, ...]
    """What the case said."""


class _CaseWorker:
    """Makes cases by their names with a model that is loaded with the first one."""

    def __init__(self, work: Work) -> None:
        self._work, self._parts = work, work.parts()
        self._memory = MemoryMode(work.config.memory_mode)

    def __call__(self, name: str) -> _Made:
        with _collected_messages() as (say, lines):
            outcome = self._make(name, say)
            if isinstance(outcome, CaseFailure):
                say(f"{name}: failed. {why_failed(outcome.error)}")
                outcome = CaseFailure(name, _sendable(outcome.error))
        return _Made(outcome, tuple(lines))

    def _make(self, name: str, say: Callable[[str], None]) -> GenerateResult | CaseFailure:
        cases = (case for case in self._work.config.test_case if case.name == name)
        work = replace(self._work, config=self._work.config.model_copy(update={"test_case": tuple(cases)}))
        try:
            ready = get_ready(work.config, self._parts, output_dir=work.output_dir, say=say)
        except InputError as error:
            return CaseFailure(name, error)
        return make_case(work, ready, 0, memory=self._memory, is_progress_shown=False, say=say)


@contextlib.contextmanager
def _collected_messages() -> Iterator[tuple[Callable[[str], None], list[str]]]:
    """Collect what this process says and logs, which nobody would read here."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("mimic"), Collector(logging.INFO)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield log.info, lines
    finally:
        log.removeHandler(handler)


def _sendable(error: Exception) -> Exception:
    """Return the error, or a plain one with its text if it cannot be sent between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(why_failed(error))
    return error
