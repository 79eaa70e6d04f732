"""Work on a Ray cluster equals work on one machine, also when a worker dies in the middle of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mimic.cluster import ATTEMPTS, Cluster, ClusterError, connected_cluster
from tests.mimic.data.prepare.conftest import SMALL, contents, prepared, videos  # noqa: F401 - fixtures
from tests.mimic.generation.conftest import stage  # noqa: F401 - a fixture


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'mimic-motion\[cluster\]'"), connected_cluster():
        pass


def test_more_workers_than_this_machine_carries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="the number of workers is 100000"), connected_cluster(100_000):
        pass


def run(cluster: Cluster, work: Callable[[], Callable[[Any], Any]], tasks: list[Any]) -> tuple[dict, dict]:
    results: dict[Any, Any] = {}
    lost: dict[Any, ClusterError] = {}
    cluster.run(
        work, tasks, num_workers=2, finished=results.__setitem__, lost=lost.__setitem__
    )  # fmt: skip
    return results, lost


def that_dies(folder: str) -> Callable[[str], str]:
    """A worker whose process ends: at "once" the first time, at "always" each time."""

    def work(task: str) -> str:
        with open(f"{folder}/{task}", "a") as note:
            note.write("x")
        if task == "always" or (task == "once" and Path(folder, task).read_text() == "x"):
            os._exit(1)
        return task.upper()

    return work


class Making:
    """Makes a worker; sent by value, since the tests are no package of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self) -> Callable[[str], str]:
        return that_dies(self.folder)


@pytest.mark.slow
def test_a_task_whose_worker_dies_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    results, lost = run(cluster, Making(tmp_path), ["a", "once", "b", "always", "c"])
    assert results == {"a": "A", "once": "ONCE", "b": "B", "c": "C"}
    assert list(lost) == ["always"]
    assert f"its worker died {ATTEMPTS} times" in str(lost["always"])
    assert (tmp_path / "always").read_text() == "x" * ATTEMPTS
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.slow
def test_an_error_of_a_task_reaches_the_caller(cluster: Cluster) -> None:
    with pytest.raises(ZeroDivisionError):
        run(cluster, lambda: lambda task: 1 / task, [1, 0, 2])


@pytest.mark.slow
def test_more_than_the_cluster_has_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no GPU"):
        cluster.run(
            lambda: str, [1], num_workers=1, needs_gpu=True, finished=lambda *_: None, lost=lambda *_: None
        )
