"""Are several people told apart? Rendered scenes of two and three dancers who cross, one table and one JSON.

    python -m benchmarks.people_quality              about 3 minutes on one core
    python -m benchmarks.people_quality --quick      a few frames of each

Two dancers change places, one in front of the other; of three, the one in the middle stays while the others
pass behind and before; and one dancer leaves the picture behind another and comes back. Everybody is followed
(`person: all`), once in true poses with an estimator's errors and people in random order ("exact"), and once
with the bundled estimator; and then kept apart by `pose.identity.keep_identities` ("kept"), as a fit does.

    switches  changes of a place along P from one true person to another
    places    places that were used, of as many as there are people
    missed    sights of a person (3 joints or more in plain view) that no place has
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pose_quality import IN_VIEW, SAME_PERSON, distance
from mimic.dancers import RenderedClip, World, add_detector_noise, render, sample_character, sample_motion
from mimic.dancers.background import paint_background
from mimic.dancers.views import together
from pose import PoseSequence, follow_person, load_estimator
from pose.identity import keep_identities
from pose.people import one_person
from pose.skeletons import BODY

SIZE = 288
FPS = 10.0
POSES = ("exact", "exact, kept", "blazepose", "blazepose, kept")
SCENES = ("two cross", "three cross", "one is lost")
RESULT = Path(__file__).parent / "results" / "people_quality.json"


@dataclass
class Count:
    """What was counted in the scenes of one kind."""

    frames: int = 0
    switches: int = 0
    places: int = 0
    people: int = 0
    sights: int = 0
    missed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few frames of each scene")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT, help="where the counts go")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    estimator = load_estimator("blazepose", num_threads=1)
    counts: dict[str, dict[str, Count]] = {}
    for scene in SCENES:
        counts[scene] = {name: Count() for name in POSES}
        for number in range(1 if arguments.quick else 3):
            clip = make_scene(scene, [arguments.seed, number], num_frames=5 if arguments.quick else 20)
            exact = follow_person(shuffled(clip.poses, number), "all")
            found = estimator.frames(iter(clip.frames), fps=FPS, person="all")
            for name, poses in (("exact", exact), ("blazepose", found)):
                add(counts[scene][name], poses, clip.poses)
                add(counts[scene][f"{name}, kept"], keep_identities(poses), clip.poses)
    print("| scene | poses | switches | places | missed |\n| --- | --- | ---: | ---: | ---: |")
    for scene, of_poses in counts.items():
        for kind, c in of_poses.items():
            cells = (
                f"{c.switches} in {c.frames} frames",
                f"{c.places} for {c.people}",
                f"{c.missed} of {c.sights}",
            )
            print(f"| {scene} | {kind} | " + " | ".join(cells) + " |")
    record = {scene: {kind: asdict(count) for kind, count in both.items()} for scene, both in counts.items()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"seed": arguments.seed, "scenes": record}, indent=1) + "\n")
    print(f"counts: {arguments.json}")


def make_scene(scene: str, seed: list[int], *, num_frames: int) -> RenderedClip:
    """Render a scene; people are given from back to front."""
    rng, world = np.random.default_rng([95, SCENES.index(scene), *seed]), World.plain()
    clips = []
    for _ in range(3 if scene == "three cross" else 2):
        character, motion = (
            sample_character(rng, world),
            sample_motion(rng, world, duration_s=num_frames / FPS),
        )
        clips.append(render(character, motion, np.arange(num_frames) / FPS, SIZE, SIZE, fps=FPS))
    wide = 2 * SIZE
    across = np.linspace(0.2, 0.8, num_frames) * wide - SIZE / 2
    stays = np.full(num_frames, 0.5 * wide - SIZE / 2)
    if scene == "one is lost":  # out at the right and back, behind the other
        there = np.interp(np.linspace(0, 1, num_frames), [0, 0.4, 0.6, 1], [0.3, 1.2, 1.2, 0.3])
        ways: list[NDArray[np.float64]] = [there * wide - SIZE / 2, stays + 0.1 * wide]
    else:
        ways = [across, stays, across[::-1]] if len(clips) == 3 else [across, across[::-1]]
    return together(list(zip(clips, ways)), paint_background(character.background, SIZE, wide))


def shuffled(truth: PoseSequence, seed: int) -> PoseSequence:
    """The true poses with an estimator's errors, people in random order, without those who are hidden."""
    rng = np.random.default_rng(seed)
    noisy = [add_detector_noise(one_person(truth, person), rng) for person in range(truth.num_people)]
    points, scores = (
        np.concatenate([getattr(one, name) for one in noisy], axis=1) for name in ("points", "scores")
    )
    is_present = (truth.scores[:, :, BODY] > IN_VIEW).sum(axis=-1) >= 6
    for frame in range(len(truth)):
        order = rng.permutation(truth.num_people)
        points[frame], scores[frame] = points[frame, order], scores[frame, order]
        is_present[frame] = is_present[frame, order]
    return replace(truth, points=points, scores=scores, is_present=is_present)


def add(count: Count, found: PoseSequence, truth: PoseSequence) -> None:
    """Count the switches of each place, and the sights that no place has."""
    count.frames += len(truth)
    count.places += int(found.is_seen.any(axis=0).sum())
    count.people += truth.num_people
    before: dict[int, int] = {}
    for one, true in zip(found.frames(), truth.frames()):
        in_view = [p for p in range(truth.num_people) if (true.scores[0, p, BODY] > IN_VIEW).sum() >= 3]
        owners = set()
        for place in np.flatnonzero(one.is_seen[0]):
            distances = {person: distance(one, int(place), true, person) for person in in_view}
            nearest = min(distances, key=lambda person: distances[person], default=None)
            if nearest is None or distances[nearest] >= SAME_PERSON:
                continue
            count.switches += before.get(int(place), nearest) != nearest
            before[int(place)] = nearest
            owners.add(nearest)
        count.sights += len(in_view)
        count.missed += len(set(in_view) - owners)


if __name__ == "__main__":
    main()
