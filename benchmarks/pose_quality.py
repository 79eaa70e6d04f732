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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.background import paint_background
from mimic.dancers.rooms import paint_pattern, paint_room
from mimic.dancers.views import CHEST, HIPS, SHOULDERS, crossing, framed, seated, turning
from pose import PoseError, PoseSequence, load_estimator
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

SIZE = 384
FPS = 10.0
IN_VIEW = 0.7  # true scores above this: in plain view
PCK_REACH = 0.2  # trunk lengths
HAND_REACH = 1 / 3  # hand lengths
MIN_HAND = 30.0  # pixels
SAME_PERSON = 0.6  # trunk lengths: a body that is farther off from the truth is another one
FLIP_MARGIN = 0.15  # trunk lengths by which one assignment of the sides fits better than the other
RESULT = Path(__file__).parent / "results" / "pose_quality.json"

# Of scikit-image's own pictures those that show no person.
WITHOUT_PEOPLE = (
    "brick", "cell", "chelsea", "chessboard_GRAY", "chessboard_RGB", "clock_motion", "coffee", "coins",
    "color", "grass", "gravel", "horse", "ihc", "logo", "microaneurysms", "moon", "motorcycle_left",
    "motorcycle_right", "page", "phantom", "text",
)  # fmt: skip

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """Pictures and their true poses (P people); a clip is followed, other pictures are read one by one."""

    frames: list[NDArray[np.uint8]]
    truth: PoseSequence | None
    is_clip: bool = True


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
    record = {"estimator": estimator.name, "seed": arguments.seed, "quick": arguments.quick}
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


def _clip(seed: int, world: World, *, frames: int, size: int = SIZE, view: str = "whole") -> Scene:
    rng = np.random.default_rng([20, seed])
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=3.0)
    if view == "half":
        character = framed(character, rng, HIPS)
    elif view == "turn":
        rate = float(rng.choice([-1, 1]) * rng.uniform(0.5, 0.8))
        motion = turning(motion, turns_per_second=rate, start_rad=float(rng.uniform(-3, 3)))
    elif view == "seat":
        motion = seated(motion, character.body, rng)
        camera = replace(character.camera, look_at=(0.0, 0.42), zoom=float(rng.uniform(0.9, 1.3)))
        character = replace(character, camera=camera)
    elif view == "small":
        camera = replace(character.camera, zoom=float(rng.uniform(0.2, 0.35)))
        character = replace(character, camera=camera)
    clip = render(character, motion, np.arange(frames) / FPS, size, size, fps=FPS)
    return Scene(list(clip.frames), clip.poses)


def _clips(view: str, world: Callable[[], World], count: int, frames: int, size: int = SIZE) -> Case:
    def scenes(seed: int, quick: bool) -> Iterator[Scene]:
        for i in range(1 if quick else count):
            place = scene_seed(seed, view, i)
            yield _clip(place, world(), frames=3 if quick else frames, size=size, view=view)

    return scenes


def _portraits(seed: int, quick: bool) -> Iterator[Scene]:
    for i in range(3 if quick else 100):
        rng = np.random.default_rng([30, seed, i])
        world = replace(World.rich(), full_turn_probability=0.0, turn_deg=50.0)
        character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1.0)
        character = framed(character, rng, (SHOULDERS, CHEST)[i % 2])
        clip = render(character, motion, [float(rng.uniform(0, 1))], 288, 288)
        yield Scene(list(clip.frames), clip.poses, is_clip=False)


def _crossings(seed: int, quick: bool) -> Iterator[Scene]:
    for i in range(1 if quick else 3):
        rng = np.random.default_rng([40, seed, i])
        world, frames = World.plain(), 4 if quick else 16
        clips = []
        for _ in range(2):
            character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=3.0)
            clips.append(render(character, motion, np.arange(frames) / FPS, 320, 320, fps=FPS))
        background = paint_background(character.background, 320, 640)
        clip = crossing(clips[0], clips[1], background)
        yield Scene(list(clip.frames), clip.poses)


def _degraded(
    degrade: Callable[[Frames, np.random.Generator], Frames], kind: int
) -> Callable[[int, bool], Iterator[Scene]]:
    def scenes(seed: int, quick: bool) -> Iterator[Scene]:
        for i in range(1 if quick else 3):
            rng = np.random.default_rng([50, kind, seed, i])
            scene = _clip(scene_seed(seed, "whole", i), World.plain(), frames=3 if quick else 8)
            yield replace(scene, frames=[degrade(frame, rng) for frame in scene.frames])

    return scenes


def _blurred(frame: Frames, rng: np.random.Generator) -> Frames:
    """Out of focus and smeared along a direction that is drawn anew for every frame."""
    length, angle = 13, rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    reach = 6 * np.array([np.cos(angle), np.sin(angle)])
    start, end = np.rint(6 - reach).astype(int), np.rint(6 + reach).astype(int)
    cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0, 1)
    smeared = cv2.filter2D(frame, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(smeared, (0, 0), 2.0), np.uint8)


def _darkened(frame: Frames, rng: np.random.Generator) -> Frames:
    """An eighth of the light and the noise of a camera that amplifies."""
    return np.clip(frame * 0.12 + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


def _nobody(seed: int, quick: bool) -> Iterator[Scene]:
    pictures = []
    for i in range(1 if quick else 12):
        rng = np.random.default_rng([60, seed, i])
        pictures += [paint_room(rng, SIZE, SIZE + 96), paint_pattern(rng, SIZE, SIZE)]
    if not quick:
        pictures += scikit_image_pictures()
    yield Scene(pictures, None, is_clip=False)


def scikit_image_pictures() -> list[Frames]:
    """The pictures without people that come with scikit-image; none where it is not installed."""
    try:
        import skimage.data
    except ImportError:
        return []
    folder = Path(skimage.data.__file__).parent
    paths = [folder / f"{name}.png" for name in WITHOUT_PEOPLE]
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths if path.is_file()]


def scene_seed(seed: int, view: str, index: int) -> int:
    """A seed of its own for each scene of each case."""
    return int(np.random.SeedSequence([seed, index, *view.encode()]).generate_state(1)[0])


Case = Callable[[int, bool], Iterator[Scene]]
CASES: dict[str, Case] = {
    "whole": _clips("whole", World.plain, 4, 8, 512),
    "half": _clips("half", World.rich, 4, 8),
    "portraits": _portraits,
    "turns": _clips("turn", World.plain, 4, 14, 320),
    "seats": _clips("seat", World.plain, 4, 6),
    "crossings": _crossings,
    "small": _clips("small", World.plain, 3, 6, 512),
    "blur": _degraded(_blurred, 0),
    "dark": _degraded(_darkened, 1),
    "nobody": _nobody,
}


if __name__ == "__main__":
    main()
