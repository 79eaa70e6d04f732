"""The rendered scenes that `benchmarks.pose_quality` judges poses on, case by case, and their true poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.background import paint_background
from mimic.dancers.rooms import paint_pattern, paint_room
from mimic.dancers.views import CHEST, HIPS, SHOULDERS, crossing, framed, seated, turning
from pose import PoseSequence

SIZE = 384
FPS = 10.0

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
    """A different seed for each scene of each case."""
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
