"""How well are poses fitted to another body? Rendered pairs with known truth, one table and one JSON.

    python -m benchmarks.fit_quality              about 2 minutes on one core
    python -m benchmarks.fit_quality --quick      seconds: one pair of each case

Each pair is a motion of dancer A with the errors of an estimator, and a picture of dancer B in another pose.
The truth is B in A's motion, beginning where B stands in the picture. Cases: whole bodies; people at other
distances; a walk across the picture; half bodies and portraits as reference; half bodies as driving clip;
children and cartoon figures; seated people; a reference that is turned by 60 to 180 degrees.

Each cell has two numbers in percent of B's height: the mean distance of the body's joints from the truth, and
the same without a constant shift of the whole clip, which measures sizes alone. Joints count that the clip
shows and whose truth lies within the picture. Last, the precision and recall with which the fit report
(`pose.fit.judge_fit`), which does not know the truth, finds the fits that are off by more than 12 percent.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit_scenes import CASES, Pair, make_pair
from pose import PoseError, PoseSequence, align_pose
from pose.align import AlignMode
from pose.anchor import Anchor
from pose.fit import judge_fit
from pose.skeletons import BODY, VISIBLE_ABOVE

FITS: dict[str, tuple[AlignMode, Anchor | None]] = {
    "none": ("none", None),
    "released": ("released", None),
    "robust, mean": ("robust", "mean"),
    "robust, first": ("robust", "first"),
    "robust, ground": ("robust", "ground"),
    "limbs, mean": ("limbs", "mean"),
    "limbs, first": ("limbs", "first"),
    "limbs, ground": ("limbs", "ground"),
}
NUM_PAIRS = 10
MARGIN = 0.1  # of the picture: joints that lie farther out do not count
BAD = 12.0  # percent of the body's height: from here on a fit counts as bad
RESULT = Path(__file__).parent / "results" / "fit_quality.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="one pair of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT, help="where the numbers go")
    arguments = parser.parse_args()

    errors: dict[str, dict[str, tuple[float, float]]] = {}
    for case in arguments.cases:
        seeds = range(arguments.seed, arguments.seed + (1 if arguments.quick else NUM_PAIRS))
        pairs = [make_pair(case, seed) for seed in seeds]
        errors[case] = {name: mean_errors(pairs, *fit) for name, fit in FITS.items()}
    print(table(errors))
    report = judge_reports(arguments.cases, arguments.seed + 1000, 1 if arguments.quick else NUM_PAIRS)
    print(f"the report's verdict, on other pairs: {report}")
    record = {"seed": arguments.seed, "quick": arguments.quick, "errors": errors, "report": report}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"numbers: {arguments.json}")


def judge_reports(cases: list[str], seed: int, num_pairs: int) -> dict[str, float]:
    """Precision and recall of `FitReport.is_poor` over all fits; a fit is bad beyond `BAD` percent."""
    is_bad, is_poor = [], []
    for case in cases:
        for pair in (make_pair(case, seed + number) for number in range(num_pairs)):
            for mode, anchor in FITS.values():
                try:
                    fitted = align_pose(pair.driving, pair.reference, mode=mode, anchor=anchor)
                except PoseError:
                    continue
                is_bad.append(error_of(fitted, pair)[0] > BAD)
                is_poor.append(judge_fit(fitted, pair.reference).is_poor)
    bad, poor = np.array(is_bad), np.array(is_poor)
    both = float((bad & poor).sum())
    return {
        "fits": float(len(bad)),
        "bad": float(bad.sum()),
        "precision": round(both / max(float(poor.sum()), 1.0), 3),
        "recall": round(both / max(float(bad.sum()), 1.0), 3),
    }


def table(errors: dict[str, dict[str, tuple[float, float]]]) -> str:
    """One row of Markdown for each case, and their mean."""
    lines = ["| case | " + " | ".join(FITS) + " |", "| --- |" + " ---: |" * len(FITS)]
    rows: dict[str, Any] = {case: list(of_fits.values()) for case, of_fits in errors.items()}
    rows["mean"] = np.nanmean(np.array(list(rows.values())), axis=0)
    for case, cells in rows.items():
        lines.append(
            f"| {case} | " + " | ".join(f"{place:.1f} / {shape:.1f}" for place, shape in cells) + " |"
        )
    return "\n".join(lines)


def mean_errors(pairs: list[Pair], mode: AlignMode, anchor: Anchor | None) -> tuple[float, float]:
    """Mean errors of a fit over some pairs; pairs that the fit refuses are left out."""
    found = []
    for pair in pairs:
        try:
            fitted = align_pose(pair.driving, pair.reference, mode=mode, anchor=anchor)
        except PoseError:
            continue
        found.append(error_of(fitted, pair))
    if not found:
        return float("nan"), float("nan")
    place, shape = np.mean(found, axis=0)
    return float(place), float(shape)


def error_of(fitted: PoseSequence, pair: Pair) -> tuple[float, float]:
    """Mean distance of the joints from the truth in percent of the body's height, and without a shift."""
    truth = pair.truth.points[:, 0, BODY]
    is_inside = ((truth > -MARGIN) & (truth < 1 + MARGIN)).all(axis=-1)
    is_used = (pair.driving.scores[:, 0, BODY] > VISIBLE_ABOVE) & is_inside
    heights = np.array([fitted.width / fitted.height, 1.0])
    apart = (fitted.points[:, 0, BODY] - truth)[is_used] * heights / pair.body_height
    centred = apart - apart.mean(axis=0)
    place, shape = (100 * np.linalg.norm(errors, axis=-1).mean() for errors in (apart, centred))
    return float(place), float(shape)


if __name__ == "__main__":
    main()
