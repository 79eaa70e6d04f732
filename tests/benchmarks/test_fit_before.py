"""Fits of an earlier commit are those of its own package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fit_before import fitted_by
from benchmarks.fit_quality import error_of
from benchmarks.fit_scenes import make_pair

ROOT = Path(__file__).parents[2]
IN_A_REPOSITORY = (ROOT / ".git").exists()


@pytest.mark.skipif(not IN_A_REPOSITORY, reason="needs the repository's history")
def test_a_commit_fits_with_its_own_package() -> None:
    pair = make_pair("near_far", 0)
    (fitted,) = fitted_by("HEAD", [pair])
    assert fitted is not None
    unfitted, _ = error_of(pair.driving, pair)
    place, _ = error_of(replace(pair.driving, points=fitted), pair)
    assert place < unfitted / 2
