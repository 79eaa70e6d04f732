"""The fit of an earlier commit on the pairs of `benchmarks.fit_quality`: mean error of its `robust` mode.

    python -m benchmarks.fit_before e3ec5fc --seed 1000      about a minute on one core

The pairs are rendered by this checkout; the commit's `pose` package, taken out of the repository into a
temporary folder, fits them in a process of its own, and the errors are measured here as `fit_quality` does.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit_quality import NUM_PAIRS, error_of
from benchmarks.fit_scenes import CASES, Pair, make_pair
from pose import PoseSequence

ROOT = Path(__file__).resolve().parents[1]
# Runs with the earlier package alone: reads pairs as plain arrays, writes fitted points (None: refused).
FIT = """
import pickle, sys
from pose import PoseError, PoseSequence, align_pose
fitted = []
for driving, reference in pickle.load(open(sys.argv[1], "rb")):
    try:
        fitted.append(align_pose(PoseSequence(**driving), PoseSequence(**reference), mode="robust").points)
    except PoseError:
        fitted.append(None)
pickle.dump(fitted, open(sys.argv[2], "wb"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS, help="of each case")
    arguments = parser.parse_args()

    means = []
    for case in arguments.cases:
        pairs = [make_pair(case, arguments.seed + number) for number in range(arguments.pairs)]
        fitted = fitted_by(arguments.commit, pairs)
        errors = [
            error_of(replace(pair.driving, points=points), pair)
            for pair, points in zip(pairs, fitted, strict=True)
            if points is not None
        ]
        if not errors:
            print(f"{case}: every pair was refused")
            continue
        means.append(np.mean(errors, axis=0))
        print(f"{case}: {means[-1][0]:.1f} / {means[-1][1]:.1f}")
    if means:
        place, shape = np.mean(means, axis=0)
        print(f"mean: {place:.1f} / {shape:.1f}")


def fitted_by(commit: str, pairs: list[Pair]) -> list[NDArray[np.float64] | None]:
    """Points ``F x 1 x 134 x 2`` of each pair's driving clip as the commit's `robust` mode fits them."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "pose"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        given, found = Path(folder, "pairs.pickle"), Path(folder, "fitted.pickle")
        given.write_bytes(pickle.dumps([(_plain(pair.driving), _plain(pair.reference)) for pair in pairs]))
        environment = {**os.environ, "PYTHONPATH": folder}
        subprocess.run(
            [sys.executable, "-c", FIT, str(given), str(found)], cwd=folder, env=environment, check=True
        )
        fitted: list[NDArray[np.float64] | None] = pickle.loads(found.read_bytes())
        return fitted


def _plain(poses: PoseSequence) -> dict[str, Any]:
    return {
        "points": poses.points,
        "scores": poses.scores,
        "height": poses.height,
        "width": poses.width,
        "fps": poses.fps,
    }


if __name__ == "__main__":
    main()
