"""What every variant is given for a clip: reference picture, driving poses and part maps, the true frames.

They are written once into `clips/<name>/` of the output folder, so that a run goes on where it stopped and
the inputs can be looked at. Legend: F frames, H x W pixels; frames are uint8 RGB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic.compare.settings import ClipSettings
from mimic.dancers import World, add_detector_noise, render, sample_character, sample_motion
from mimic.dancers.write import write_clip
from mimic.files import local_path, write_json
from mimic.metrics.clips import Clip, EvaluationError, find_clips, fitted
from mimic.metrics.pose import estimate_poses
from mimic.video import VideoWriter, write_image
from mimic.weights.sources import sha256
from pose import PoseSequence
from pose.estimators import Estimator

_DANCE_SECONDS = 8.0
_DONE = "inputs.json"


@dataclass(frozen=True)
class ClipInputs:
    """One clip as all variants get it."""

    name: str
    folder: Path
    num_frames: int
    fps: float

    @property
    def reference(self) -> Path:
        return self.folder / "reference.png"

    @property
    def truth(self) -> Path:
        """Folder of the true frames."""
        return self.folder / "truth"

    @property
    def truth_video(self) -> Path:
        """The same as a video."""
        return self.folder / "truth.mp4"

    @property
    def densepose(self) -> Path | None:
        """Part maps as a video, where there are any."""
        path = self.folder / "densepose.mp4"
        return path if path.is_file() else None

    def poses(self) -> tuple[PoseSequence, PoseSequence]:
        """The reference's own (F = 1), and the driving ones."""
        both = PoseSequence.load(self.folder / "poses.npz")
        return both[0], both[1:]

    def fingerprint(self) -> str:
        """Hash of everything that a model is given."""
        files = [self.reference, self.folder / "poses.npz", *([self.densepose] if self.densepose else [])]
        return hashlib.sha256("".join(sha256(path) for path in files).encode()).hexdigest()


def prepare_clips(
    settings: ClipSettings,
    folder: Path,
    *,
    height: int,
    width: int,
    estimator: Callable[[], Estimator],
    show: Callable[[int, int | None], None] | None = None,
) -> list[ClipInputs]:
    """Write what is not there yet.

    Args:
        folder: `clips/` of the output folder.
        height, width: of the results; everything is brought to it (covered, the middle cut out).
        estimator: gives the pose estimator where poses are to be found.

    Raises:
        EvaluationError: a clip has too few frames.
        FileNotFoundError, VideoError, PictureError, PoseError: an input cannot be read, or shows nobody.
    """
    size = {"height": height, "width": width}
    asked = json.loads(settings.model_dump_json()) | size
    found = None if settings.source == "synthetic" else _user_clips(settings)
    names = [f"dancer_{i:03d}" for i in range(settings.num_clips)] if found is None else list(found)
    inputs = []
    for number, name in enumerate(names):
        place = folder / name
        if not _is_done(place, asked):
            if found is None:
                _render(number, place, settings, estimator, **size)
            else:
                _cut(found[name], place, settings, estimator, **size)
            write_json(place / _DONE, asked)
        poses = PoseSequence.load(place / "poses.npz")
        inputs.append(ClipInputs(name, place, len(poses) - 1, poses.fps))
        if show is not None:
            show(number + 1, len(names))
    return inputs


def _is_done(place: Path, asked: dict[str, object]) -> bool:
    try:
        return bool(json.loads((place / _DONE).read_text(encoding="utf-8")) == asked)
    except (OSError, ValueError):
        return False


def _render(
    number: int,
    place: Path,
    settings: ClipSettings,
    estimator: Callable[[], Estimator],
    *,
    height: int,
    width: int,
) -> None:
    """A dancer: the reference at a moment of its own, then a stretch of the same dance."""
    rng = np.random.default_rng(settings.first_seed + number)
    world = World.plain()
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=_DANCE_SECONDS)
    length = settings.num_frames / settings.fps
    start = rng.uniform(0, max(_DANCE_SECONDS - length, 0.1))
    times = np.concatenate(
        [rng.uniform(0, _DANCE_SECONDS, 1), start + np.arange(settings.num_frames) / settings.fps]
    )
    clip = render(character, motion, times, height, width, fps=settings.fps)
    poses = clip.poses
    if settings.poses == "noisy":
        poses = add_detector_noise(poses, rng, strength=1.0)
    elif settings.poses == "estimated":
        poses = _estimated(iter(clip.frames), estimator, settings.fps, len(times))
    _write(place, clip.frames[0], iter(clip.frames[1:]), poses)
    # With the reference's map in front cut off, as what drives is the stretch alone.
    later = type(clip)(
        clip.frames[1:], clip.poses[1:], clip.figure_mask[1:], clip.part_ids[1:], clip.densepose_ids[1:]
    )
    write_clip(later, place / "truth.mp4", None, place / "densepose.mp4")


def _user_clips(settings: ClipSettings) -> dict[str, Clip]:
    assert settings.path is not None
    path = local_path(settings.path)
    found = {
        name: clip
        for name, clip in find_clips(path).items()
        if not name.endswith(".densepose")
        and (not settings.names or any(part in name for part in settings.names))
    }
    if not found:
        raise EvaluationError(f"{path} holds no clip whose name contains {', '.join(settings.names)}")
    needed = settings.reference_frame + 1 + settings.num_frames * settings.stride
    for name, clip in found.items():
        if clip.num_frames < needed:
            raise EvaluationError(
                f"{name} has {clip.num_frames} frames; {needed} are needed (reference_frame, then num_frames "
                "at stride). Set clips.num_frames lower"
            )
    return found


def _cut(
    clip: Clip,
    place: Path,
    settings: ClipSettings,
    estimator: Callable[[], Estimator],
    *,
    height: int,
    width: int,
) -> None:
    """The frames of a user's clip: the reference's, then every stride-th one after it."""
    fps = (settings.fps if clip.pictures else clip.fps) / settings.stride
    first, stride = settings.reference_frame, settings.stride
    last = first + settings.num_frames * stride

    def chosen(source: Clip) -> Iterator[NDArray[np.uint8]]:
        for number, frame in enumerate(source.frames(last + 1)):
            if number >= first and (number - first) % stride == 0:
                yield fitted(frame, height, width)

    poses = _estimated(chosen(clip), estimator, fps, settings.num_frames + 1)
    frames = chosen(clip)
    _write(place, next(frames), frames, poses)
    frames = chosen(clip)
    next(frames)  # the reference
    _write_video(place / "truth.mp4", frames, fps, height, width)
    beside = clip.path.parent / f"{clip.name}.densepose.mp4"
    if beside.is_file():
        maps = chosen(find_clips(beside)[f"{clip.name}.densepose"])
        next(maps)  # the reference's
        _write_video(place / "densepose.mp4", maps, fps, height, width)


def _write_video(
    path: Path, frames: Iterator[NDArray[np.uint8]], fps: float, height: int, width: int
) -> None:
    with VideoWriter(path, height=height, width=width, fps=fps, crf=0) as writer:
        for frame in frames:
            writer.write(frame)


def _estimated(
    frames: Iterator[NDArray[np.uint8]], estimator: Callable[[], Estimator], fps: float, num_frames: int
) -> PoseSequence:
    return estimate_poses(frames, estimator(), fps=fps, num_frames=num_frames)


def _write(
    place: Path, reference: NDArray[np.uint8], frames: Iterator[NDArray[np.uint8]], poses: PoseSequence
) -> None:
    write_image(place / "reference.png", reference)
    for number, frame in enumerate(frames):
        write_image(place / "truth" / f"frame_{number:05d}.png", frame)
    poses.save(place / "poses.npz")
