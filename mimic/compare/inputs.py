"""Inputs of a comparison's clips: reference picture, driving poses and part maps, the true frames.

They are written once into `clips/<name>/` of the output folder, to resume from and to look at.
Legend: F frames, H x W pixels; frames are uint8 RGB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic.compare.settings import ClipSettings
from mimic.dancers import World, add_detector_noise, render, sample_character, sample_motion
from mimic.dancers.write import write_clip
from mimic.files import local_path, write_json
from mimic.metrics.clips import EvaluatedClip, EvaluationError, find_clips, fitted
from mimic.metrics.pose import estimate_poses
from mimic.video import VideoWriter, write_image
from mimic.weights.sources import sha256
from pose import PoseSequence
from pose.dwpose import DWPose
from pose.estimators import Estimator

_DANCE_SECONDS = 8.0
_DONE = "inputs.json"

FORMAT = 2
"""Version of the content of a clip's folder; clips of another one are written again."""


class CompareError(ValueError):
    """Variants or clips that cannot be compared."""


@dataclass(frozen=True)
class ClipInputs:
    """One clip, the same for all variants."""

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
        """The true frames as a video."""
        return self.folder / "truth.mp4"

    @property
    def densepose(self) -> Path | None:
        """Part maps as a video, if there are any."""
        path = self.folder / "densepose.mp4"
        return path if path.is_file() else None

    def poses(self) -> tuple[PoseSequence, PoseSequence]:
        """The reference's own pose (F = 1) and the driving ones."""
        both = PoseSequence.load(self.folder / "poses.npz")
        return both[0], both[1:]

    def fingerprint(self) -> str:
        """Hash of everything that a model is given or measured by."""
        files = [self.reference, self.folder / "poses.npz", self.truth_video]
        files += [*sorted(self.truth.glob("frame_*.png")), *([self.densepose] if self.densepose else [])]
        return hashlib.sha256("".join(f"{path.name} {sha256(path)}\n" for path in files).encode()).hexdigest()


def prepare_clips(
    settings: ClipSettings,
    folder: Path,
    *,
    size: tuple[int, int],
    estimator: Callable[[], Estimator],
    say: Callable[[str], None] = lambda line: None,
) -> list[ClipInputs]:
    """Write the clips that are missing or were made of something else.

    Args:
        folder: `clips/` of the output folder.
        size: height and width of the results; everything is scaled to cover it, and its middle cut out.
        estimator: gives the pose estimator where poses are to be found.
        say: called with a line for each clip that is written.

    Raises:
        CompareError: a folder that should hold a clip holds other files.
        EvaluationError: a clip has too few frames.
        FileNotFoundError, VideoError, PictureError, PoseError: an input cannot be read, or shows nobody.
    """
    height, width = size
    found = None if settings.source == "synthetic" else _user_clips(settings)
    names = [f"dancer_{i:03d}" for i in range(settings.num_clips)] if found is None else list(found)
    is_estimated = found is not None or settings.poses == "estimated"
    made_of = {
        "format": FORMAT,
        "settings": settings.model_dump(mode="json", exclude={"num_clips", "names", "path"}),
        "size": [height, width],
        "estimator": estimator_identity(estimator()) if is_estimated else None,
    }
    inputs = []
    for number, name in enumerate(names):
        place = folder / name
        own = made_of | {"number": number} if found is None else made_of | {"files": _hashes(found[name])}
        clip = _finished(name, place, own)
        if clip is None:
            _check_ours(place)
            say(f"clip {name}: written to {place}")
            if found is None:
                _render(number, place, settings, estimator, height=height, width=width)
            else:
                _cut(found[name], place, settings, estimator, height=height, width=width)
            clip = _read(name, place)
            write_json(place / _DONE, {"made_of": own, "fingerprint": clip.fingerprint()})
        inputs.append(clip)
    return inputs


def estimator_identity(estimator: Estimator | None) -> dict[str, Any] | None:
    """Name of a pose estimator and hashes of its weights, where they are not part of this package."""
    if estimator is None:
        return None
    files = [estimator.detector.network.path, estimator.network.path] if isinstance(estimator, DWPose) else []
    return {"name": estimator.name, "weights": [sha256(Path(path)) for path in files]}


def _read(name: str, place: Path) -> ClipInputs:
    poses = PoseSequence.load(place / "poses.npz")
    return ClipInputs(name, place, len(poses) - 1, poses.fps)


def _finished(name: str, place: Path, made_of: dict[str, Any]) -> ClipInputs | None:
    """A clip that is whole and was made of these things."""
    try:
        done = json.loads((place / _DONE).read_text(encoding="utf-8"))
        if done["made_of"] != made_of:
            return None
        clip = _read(name, place)
        return clip if clip.fingerprint() == done["fingerprint"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_ours(place: Path) -> None:
    """Refuse to write among files that are not those of a clip of ours."""
    ours = {"reference.png", "poses.npz", "truth", "truth.mp4", "densepose.mp4", _DONE}
    others = [path.name for path in place.glob("*") if path.name not in ours and ".partial" not in path.name]
    if others:
        raise CompareError(
            f"{place} holds {others[0]}, which no comparison wrote; give another output_dir, or move it away"
        )


def _hashes(clip: EvaluatedClip) -> dict[str, str]:
    """Content of a user's clip, and of the part maps beside it."""
    files = [*(clip.pictures or (clip.path,)), *filter(Path.is_file, [_part_maps_of(clip)])]
    return {path.name: sha256(path) for path in files}


def _part_maps_of(clip: EvaluatedClip) -> Path:
    return clip.path.parent / f"{clip.name}.densepose.mp4"


def _render(
    number: int,
    place: Path,
    settings: ClipSettings,
    estimator: Callable[[], Estimator],
    *,
    height: int,
    width: int,
) -> None:
    """Render a dancer: the reference at a random time, then a stretch of the same dance."""
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
    # Without the reference's own frame: only the stretch drives.
    later = type(clip)(
        clip.frames[1:], clip.poses[1:], clip.figure_mask[1:], clip.part_ids[1:], clip.densepose_ids[1:]
    )
    write_clip(later, place / "truth.mp4", None, place / "densepose.mp4")


def _user_clips(settings: ClipSettings) -> dict[str, EvaluatedClip]:
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
    clip: EvaluatedClip,
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

    def chosen(source: EvaluatedClip) -> Iterator[NDArray[np.uint8]]:
        for number, frame in enumerate(source.frames(last + 1)):
            if number >= first and (number - first) % stride == 0:
                yield fitted(frame, height, width)

    poses = _estimated(chosen(clip), estimator, fps, settings.num_frames + 1)
    frames = chosen(clip)
    _write(place, next(frames), frames, poses)
    frames = chosen(clip)
    next(frames)  # the reference
    _write_video(place / "truth.mp4", frames, fps, height, width)
    beside = _part_maps_of(clip)
    if beside.is_file():
        maps = chosen(find_clips(beside)[f"{clip.name}.densepose"])
        next(maps)  # the reference's
        _write_video(place / "densepose.mp4", maps, fps, height, width)
    else:
        (place / "densepose.mp4").unlink(missing_ok=True)


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
    names = set()
    for number, frame in enumerate(frames):
        names.add(f"frame_{number:05d}.png")
        write_image(place / "truth" / f"frame_{number:05d}.png", frame)
    for path in (place / "truth").glob("frame_*.png"):  # of an earlier, longer clip
        if path.name not in names:
            path.unlink(missing_ok=True)
    poses.save(place / "poses.npz")
