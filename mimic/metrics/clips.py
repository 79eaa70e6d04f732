"""Which generated clip belongs to which true one, and their frames: videos or folders of pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.video import probe, read_frames, read_image

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FOLDER_FPS = 25.0
SAME_ASPECT = 0.02

Frame = NDArray[np.uint8]


class EvaluationError(ValueError):
    """Clips that cannot be compared: without a partner, or of different lengths or shapes."""


@dataclass(frozen=True)
class EvaluatedClip:
    """A video, or a folder of pictures in the order of their names (numbers by value)."""

    name: str
    path: Path
    pictures: tuple[Path, ...]
    """The pictures, where it is a folder."""
    num_frames: int
    height: int
    width: int
    fps: float

    def frames(self, num_frames: int | None = None) -> Iterator[Frame]:
        """uint8 ``H x W x 3`` RGB, one at a time.

        Raises:
            EvaluationError: the frames differ in size.
        """
        if not self.pictures:
            yield from read_frames(self.path, max_frames=num_frames)
            return
        for picture in self.pictures[:num_frames]:
            frame = read_image(picture)
            if frame.shape[:2] != (self.height, self.width):
                raise EvaluationError(
                    f"{picture} is {frame.shape[1]}x{frame.shape[0]}, the first of its folder "
                    f"{self.width}x{self.height}; the frames of a clip have one size"
                )
            yield frame


@dataclass(frozen=True)
class Pair:
    """A generated clip and the true one of the same name."""

    name: str
    generated: EvaluatedClip
    truth: EvaluatedClip
    num_frames: int

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[tuple[Frame, Frame]]:
        """(generated, true) frames at `size` (height, width), or at the truth's own."""
        height, width = size or (self.truth.height, self.truth.width)
        made, true = (clip.frames(self.num_frames) for clip in (self.generated, self.truth))
        num = 0
        for a, b in zip(made, true, strict=False):
            yield fitted(a, height, width), fitted(b, height, width)
            num += 1
        if num != self.num_frames:
            raise EvaluationError(
                f"{self.name}: {num} of {self.num_frames} frames could be read; is a file damaged?"
            )


def find_clips(path: str | os.PathLike[str]) -> dict[str, EvaluatedClip]:
    """The clips of a folder, by name without suffix; a video or a folder of pictures is one clip.

    `<name>_side_by_side` beside `<name>`, which `mimic` writes to look at, is left out.

    Raises:
        FileNotFoundError: there is nothing of that name.
        EvaluationError: there are no clips, or two of one name.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no folder or video {path}")
    if not path.is_dir():  # or no file at all, which is told
        return {path.stem: _video(path)}
    if any(_is_picture(entry) for entry in path.iterdir()):
        return {path.name: _folder(path)}
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    found: dict[str, EvaluatedClip] = {}
    for entry in entries:
        if entry.is_dir() and any(_is_picture(inner) for inner in entry.iterdir()):
            clip = _folder(entry)
        elif entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES:
            base = entry.stem.removesuffix("_side_by_side")
            if base != entry.stem and any(other.stem == base for other in entries):
                continue
            clip = _video(entry)
        else:
            continue
        if clip.name in found:
            raise EvaluationError(f"{path} has two clips called {clip.name}; rename one")
        found[clip.name] = clip
    if not found:
        raise EvaluationError(f"{path} holds no videos, no pictures and no folders of pictures")
    return found


def pair_clips(
    generated: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    is_shortest_taken: bool = False,
    is_subset_allowed: bool = False,
    size: tuple[int, int] | None = None,
) -> list[Pair]:
    """Pairs by name; two single clips are a pair whatever their names.

    Args:
        is_shortest_taken: of clips of different length compare the frames that both have.
        is_subset_allowed: leave out clips that have no partner.
        size: what frames are brought to (`Protocol.size`); without one, shapes have to agree.

    Raises:
        FileNotFoundError, VideoError, PictureError: something cannot be read.
        EvaluationError: clips have no partner, another length or another shape.
    """
    made, true = find_clips(generated), find_clips(truth)
    if len(made) == len(true) == 1:
        name = next(iter(made))
        return [_pair(name, made[name], next(iter(true.values())), is_shortest_taken, size)]
    alone = sorted(set(made) ^ set(true))
    common = sorted(set(made) & set(true), key=_natural)
    if (alone and not is_subset_allowed) or not common:
        lacking = ", ".join(
            f"{name} (no {'ground truth' if name in made else 'generated clip'})" for name in alone[:5]
        )
        more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
        raise EvaluationError(
            f"clips are paired by name, and some have no partner: {lacking}{more}. Rename or remove them"
            + (", or compare the others alone with --allow-unpaired" if common else "")
        )
    return [_pair(name, made[name], true[name], is_shortest_taken, size) for name in common]


def fitted(frame: Frame, height: int, width: int) -> Frame:
    """A frame at a size: scaled to cover it, the middle cut out; shrunk by averaging areas."""
    rows, columns = frame.shape[:2]
    if (rows, columns) == (height, width):
        return frame
    scale = max(height / rows, width / columns)
    size = max(width, round(columns * scale)), max(height, round(rows * scale))
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width], np.uint8)


def _pair(
    name: str, made: EvaluatedClip, true: EvaluatedClip, is_shortest_taken: bool, size: tuple[int, int] | None
) -> Pair:
    if made.num_frames != true.num_frames and not is_shortest_taken:
        raise EvaluationError(
            f"{name}: {made.num_frames} frames were generated and the truth has {true.num_frames}. Compare "
            "what both have with --frames shortest, or give clips of equal length"
        )
    aspects = made.width / made.height, true.width / true.height
    if size is None and abs(aspects[0] / aspects[1] - 1) > SAME_ASPECT:
        raise EvaluationError(
            f"{name}: generated frames are {made.width}x{made.height}, true ones {true.width}x{true.height}: "
            "another shape. Crop one of them"
        )
    return Pair(name, made, true, min(made.num_frames, true.num_frames))


def _video(path: Path) -> EvaluatedClip:
    info = probe(path)
    return EvaluatedClip(path.stem, path, (), info.num_frames, info.height, info.width, float(info.fps))


def _folder(path: Path) -> EvaluatedClip:
    pictures = sorted(
        (entry for entry in path.iterdir() if _is_picture(entry)), key=lambda p: _natural(p.name)
    )
    height, width = read_image(pictures[0]).shape[:2]
    return EvaluatedClip(path.name, path, tuple(pictures), len(pictures), height, width, FOLDER_FPS)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not path.name.startswith(".")


def _natural(name: str) -> list[tuple[int, str]]:
    """frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
