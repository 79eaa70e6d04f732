"""How good are estimated poses where the truth is known? Rendered dancers, one table and one JSON.

    python -m benchmarks.pose_quality                       about 4 minutes on one core
    python -m benchmarks.pose_quality --quick               seconds: a little of everything
    python -m benchmarks.pose_quality --estimator dwpose    DWPose, where its files are

Cases: whole and half bodies, portraits and busts, turns, seats, two dancers who cross, small figures, blur,
dark, and pictures without people (rendered rooms and patterns; scikit-image's own where it is installed).

Columns, each over what the truth says is in plain view:

    PCK       joints of the body within a fifth of the trunk's length (neck to hips); a missed one is wrong
    hands     hands longer than 30 pixels that are found: mean error below a third of the hand's length
    wrong     hands that are claimed (score above 0.3) and lie elsewhere or nowhere, of those claimed
    flips     bodies whose left and right are exchanged, of those where the two can be told apart
    switches  changes from one true person to another while one person is followed
    false     people found where nobody is, and second readings of one person
    missed    people of whom nothing is found
    frames/s  of the estimator while it follows one person, in CPU time
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pose_scenes import CASES, Scene
from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.render import FRAME_HEIGHTS
from pose import PoseError, PoseSequence, bridge_gaps, load_estimator
from pose.estimators import Estimator
from pose.skeletons import (
    BODY,
    HANDS,
    LEFT_HIP,
    LEFT_SHOULDER,
    MIRROR,
    NECK,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    VISIBLE_ABOVE,
)

IN_VIEW = 0.7  # true scores above this: in plain view
PCK_REACH = 0.2  # trunk lengths
HAND_REACH = 1 / 3  # hand lengths
MIN_HAND = 30.0  # pixels
SAME_PERSON = 0.6  # trunk lengths: a body that is farther off from the truth is another one
FLIP_MARGIN = 0.15  # trunk lengths by which one assignment of the sides fits better than the other
RESULT = Path(__file__).parent / "results" / "pose_quality.json"


@dataclass
class Tally:
    """What was counted in the scenes of a case."""

    joints: int = 0
    joints_right: int = 0
    hands: int = 0
    hands_found: int = 0
    hands_claimed: int = 0
    hands_wrong: int = 0
    sides: int = 0
    flips: int = 0
    switches: int = 0
    false_people: int = 0
    people: int = 0
    missed: int = 0
    pictures: int = 0
    followed: int = 0
    seconds: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimator", default="blazepose", help="blazepose or dwpose")
    parser.add_argument("--weights", type=Path, help="folder with DWPose's files")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="one small scene of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT, help="where the counts go")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    estimator = load_estimator(arguments.estimator, weights=arguments.weights, device="cpu", num_threads=1)
    tallies = {}
    for case in arguments.cases:
        scenes = CASES[case](arguments.seed, arguments.quick)
        tallies[case] = sum((judge(estimator, scene) for scene in scenes), Tally())
    print(table(tallies))
    record: dict[str, Any] = {"estimator": estimator.name, "seed": arguments.seed, "quick": arguments.quick}
    gaps = gap_errors(arguments.seed, num_clips=1 if arguments.quick else 6)
    print("hands missing for some frames at 25 frames/s, mean error in % of the body's height:")
    for length, (bridged, carried) in gaps.items():
        print(f"  {length} frames: bridged {bridged:.2f}, position of the last sight {carried:.2f}")
    record["gaps"] = gaps
    counts = {case: asdict(tally) for case, tally in tallies.items()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({**record, "cases": counts}, indent=1) + "\n")
    print(f"counts: {arguments.json}")


def table(tallies: dict[str, Tally]) -> str:
    """One row of Markdown for each case."""
    names = ("PCK", "hands", "wrong", "flips", "switches", "false", "missed", "frames/s")
    lines = ["| case | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]

    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f} % of {whole}" if whole else ""

    for case, t in tallies.items():
        cells = (
            share(t.joints_right, t.joints),
            share(t.hands_found, t.hands),
            share(t.hands_wrong, t.hands_claimed),
            share(t.flips, t.sides),
            str(t.switches) if t.followed else "",
            f"{t.false_people} in {t.pictures}",
            share(t.missed, t.people),
            f"{t.followed / t.seconds:.1f}" if t.seconds else "",
        )
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gap_errors(seed: int, *, num_clips: int) -> dict[int, tuple[float, float]]:
    """Errors of hands that are taken from exact poses for some frames: bridged, and carried on.

    Returns:
        for each length of gaps in frames the mean errors in percent of the body's height.
    """
    errors: dict[int, tuple[float, float]] = {}
    for length in (2, 4, 7):
        found = []
        for i in range(num_clips):
            rng, world = np.random.default_rng([70, seed, i]), World.plain()
            character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=3.0)
            truth = render(character, motion, np.arange(60) / 25, 48, 48, supersample=1, fps=25.0).poses
            truth = replace(truth, scores=np.full_like(truth.scores, 0.9))
            gaps = np.concatenate([np.arange(start, start + length) for start in range(5, 50, 11)])
            scores, points = truth.scores.copy(), truth.points.copy()
            for hand in HANDS:
                scores[gaps, :, hand] = 0.0
                for frame in gaps:
                    points[frame, :, hand] = points[frame - 1, :, hand]
            carried = replace(truth, points=points, scores=scores)
            unit = 0.01 * character.body.height / FRAME_HEIGHTS
            for poses in (bridge_gaps(carried), carried):
                distance = np.linalg.norm(poses.points - truth.points, axis=-1)
                found.append(np.mean([distance[gaps][:, :, hand].mean() for hand in HANDS]) / unit)
        errors[length] = float(np.mean(found[0::2])), float(np.mean(found[1::2]))
    return errors


def judge(estimator: Estimator, scene: Scene) -> Tally:
    """Estimate the poses of a scene and compare them with the truth."""
    if not scene.is_clip:
        found = [estimator.image(frame) for frame in scene.frames]
        truths = scene.truth.frames() if scene.truth is not None else [None] * len(found)
        return sum((judge_picture(poses, true) for poses, true in zip(found, truths)), Tally())
    assert scene.truth is not None
    total = Tally()
    people = range(scene.truth.num_people)
    for person in people:
        start = time.process_time()
        try:
            poses = estimator.frames(
                scene.frames, fps=scene.truth.fps, person=person if len(people) > 1 else "largest"
            )
        except PoseError:  # nobody in any frame
            nobody = np.zeros((len(scene.frames), 1, 134))
            poses = replace(scene.truth, points=np.zeros((*nobody.shape, 2)), scores=nobody, is_present=None)
        total += Tally(followed=len(scene.frames), seconds=time.process_time() - start)
        total += judge_followed(poses, scene.truth, person)
    return total


def judge_picture(poses: PoseSequence, truth: PoseSequence | None) -> Tally:
    """Everyone found in one picture against everyone in it (None: nobody is)."""
    tally = Tally(pictures=1, false_people=poses.num_people)
    if truth is None:
        return tally
    free = set(range(poses.num_people))
    for true in range(truth.num_people):
        distances = {one: distance(poses, one, truth, true) for one in free}
        best = min(distances, key=lambda one: distances[one], default=None)
        is_found = best is not None and distances[best] < SAME_PERSON
        if is_found and best is not None:
            free.remove(best)
            tally.false_people -= 1
        tally += judge_person(poses, best if is_found else None, truth, true)
    return tally


def judge_followed(poses: PoseSequence, truth: PoseSequence, person: int) -> Tally:
    """A followed person against the true one; frames whose scores are all 0 show nobody."""
    tally = Tally(pictures=len(poses))
    before = None
    for one, true in zip(poses.frames(), truth.frames()):
        is_seen = bool((one.scores > 0).any())
        distances = [distance(one, 0, true, other) for other in range(true.num_people)]
        nearest = int(np.argmin(distances)) if is_seen else None
        if nearest is not None and distances[nearest] < SAME_PERSON:
            tally.switches += before is not None and nearest != before
            before = nearest
        elif is_seen:
            tally.false_people += 1
        is_right = is_seen and distances[person] < SAME_PERSON
        tally += judge_person(one, 0 if is_right else None, true, person)
    return tally


def judge_person(poses: PoseSequence, found: int | None, truth: PoseSequence, true: int) -> Tally:
    """Joints, hands and sides of one true person in one frame; None: that person was not found."""
    size = np.array([truth.width, truth.height])
    points, scores = truth.points[0, true] * size, truth.scores[0, true]
    if (scores[BODY] > IN_VIEW).sum() < 3:
        return Tally()
    tally = Tally(people=1, missed=int(found is None))
    is_in_view = scores[BODY] > IN_VIEW
    tally.joints = int(is_in_view.sum())
    visible = [hand for hand in HANDS if scores[hand].min() > IN_VIEW and extent(points[hand]) > MIN_HAND]
    tally.hands = len(visible)
    if found is None:
        return tally
    guess, surety = poses.points[0, found] * size, poses.scores[0, found]
    errors = np.linalg.norm(guess - points, axis=1)
    is_right = (errors[BODY] < PCK_REACH * trunk(points)) & (surety[BODY] > VISIBLE_ABOVE)
    tally.joints_right = int((is_right & is_in_view).sum())
    for hand in visible:
        is_close = errors[hand].mean() < HAND_REACH * extent(points[hand])
        tally.hands_found += bool(is_close and surety[hand].min() > VISIBLE_ABOVE)
    for hand in HANDS:
        if surety[hand].min() > VISIBLE_ABOVE and extent(points[hand]) > MIN_HAND / 2:
            tally.hands_claimed += 1
            tally.hands_wrong += bool(errors[hand].mean() > extent(points[hand]) / 2)
    paired = np.flatnonzero((MIRROR[BODY] != np.arange(18)) & is_in_view & (surety[BODY] > VISIBLE_ABOVE))
    paired = paired[np.isin(MIRROR[paired], paired)]
    if len(paired):
        straight = errors[paired].mean()
        exchanged = np.linalg.norm(guess[MIRROR[paired]] - points[paired], axis=1).mean()
        if abs(straight - exchanged) > FLIP_MARGIN * trunk(points):
            tally.sides, tally.flips = 1, int(exchanged < straight)
    return tally


def distance(poses: PoseSequence, one: int, truth: PoseSequence, true: int) -> float:
    """Mean distance of the joints in trunk lengths, whichever way left and right are assigned."""
    size = np.array([truth.width, truth.height])
    points = truth.points[0, true] * size
    both = (truth.scores[0, true, BODY] > IN_VIEW) & (poses.scores[0, one, BODY] > 0)
    if not both.any():
        return np.inf
    guess = poses.points[0, one] * size
    straight, exchanged = (
        np.linalg.norm(guess[order][BODY][both] - points[BODY][both], axis=1).mean()
        for order in (np.arange(134), MIRROR)
    )
    return float(min(straight, exchanged) / trunk(points))


def trunk(points: NDArray[np.float64]) -> float:
    """Length from the neck to the middle of the hips; at least the shoulders' breadth."""
    hips = (points[LEFT_HIP] + points[RIGHT_HIP]) / 2
    shoulders = float(np.linalg.norm(points[LEFT_SHOULDER] - points[RIGHT_SHOULDER]))
    return max(float(np.linalg.norm(points[NECK] - hips)), shoulders, 1.0)


def extent(points: NDArray[np.float64]) -> float:
    """The longer side of the box around some points."""
    return float(np.ptp(points, axis=0).max())


if __name__ == "__main__":
    main()
