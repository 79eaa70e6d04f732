"""Clips prepared by the workers of a Ray cluster equal those of one process, also when a worker dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimic.cluster import Cluster
from mimic.data.prepare import Prepared, prepare
from tests.cluster import OneKill
from tests.mimic.data.prepare.conftest import SMALL, contents


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_clips_prepared_by_workers_are_those_of_one_process(
    cluster: Cluster, prepared: Prepared, videos: Path
) -> None:
    out = prepared.folder.parent / "by workers"  # beside the other, so that paths to the videos are the same
    with OneKill(lambda: any((out / ".prepare").rglob("*.json"))) as kill:
        assert prepare(videos, out, SMALL, runner="ray", num_workers=2) is not None
    assert kill.killed is not None
    assert contents(out) == contents(prepared.folder)
