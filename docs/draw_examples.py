"""Draw the examples of docs/your-pictures.md: good and bad references and clips, and the poses found there.

python docs/draw_examples.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic.files import ASSETS
from mimic.video import read_frames, read_image, write_image
from pose import load_estimator
from pose.draw import overlay_frame
from pose.estimators import Estimator

IMAGES = Path(__file__).parent / "images"
SIDE = 288
STRIP = 26
GOOD, BAD = (30, 120, 60), (160, 50, 40)
Picture = NDArray[np.uint8]


def references() -> list[tuple[str, bool, Picture]]:
    """Return (label, is it good, picture) of reference pictures."""
    whole = read_image(ASSETS / "demo" / "reference.png")
    side = whole.shape[0]
    small = _background(whole)
    shrunk = cv2.resize(whole, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    small[side - side // 4 :, side // 2 : side // 2 + side // 4] = shrunk
    two = whole.copy()
    two[:, side // 2 :] = np.roll(whole, side // 4, axis=1)[:, side // 2 :]
    two[:, : side // 2] = np.roll(whole, -side // 4, axis=1)[:, : side // 2]
    return [
        ("whole body, arms away from it", True, whole),
        ("cut off: legs are invented", False, whole[: side * 6 // 10, side // 5 : side * 4 // 5]),
        ("too small: no face, no hands", False, small),
        ("blurred: so is the result", False, cv2.GaussianBlur(whole, (0, 0), side / 50)),
        ("two people: say which one", False, two),
        ("too dark: points are unsure", False, _dark(whole)),
    ]


def clips() -> list[tuple[str, bool, Picture]]:
    """Return (label, is it good, frame) of driving clips."""
    frames = list(read_frames(ASSETS / "demo" / "driving.mp4"))
    widest = max(range(3, len(frames) - 3), key=lambda number: np.ptp(_columns(frames[number])))
    sharp = frames[widest]
    side = sharp.shape[0]
    blurred = np.mean(frames[widest - 3 : widest + 4], axis=0).astype(np.uint8)
    middle = int(np.median(np.nonzero(_figure(sharp))[1]))
    small = _background(sharp)
    shrunk = cv2.resize(sharp, (side // 5, side // 5), interpolation=cv2.INTER_AREA)
    small[side // 2 : side // 2 + side // 5, side // 3 : side // 3 + side // 5] = shrunk
    coarse = cv2.resize(sharp, (side // 8, side // 8), interpolation=cv2.INTER_AREA)
    return [
        ("sharp, whole, one person", True, sharp),
        ("motion blur: hands are lost", False, blurred),
        ("hands outside the picture", False, sharp[:, middle - side * 17 // 100 : middle + side * 17 // 100]),
        ("a person below a quarter", False, small),
        ("too few pixels", False, cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)),
        ("too dark", False, _dark(sharp)),
    ]


def sheet(examples: list[tuple[str, bool, Picture]], estimator: Estimator) -> Picture:
    """Draw pictures with what the estimator finds in them, three in a row, each below its label."""
    cells = [_cell(label, is_good, _with_poses(picture, estimator)) for label, is_good, picture in examples]
    rows = [np.concatenate(cells[first : first + 3], axis=1) for first in range(0, len(cells), 3)]
    return np.concatenate(rows)


def _with_poses(picture: Picture, estimator: Estimator) -> Picture:
    picture = np.ascontiguousarray(picture)
    factor = SIDE / max(picture.shape[:2])
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    found = estimator.image(cv2.resize(picture, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_CUBIC))
    shown = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if found.num_people == 0 or found.is_present is None:
        return shown
    return overlay_frame(shown, found.points[0], found.scores[0], found.is_present[0])


def _cell(label: str, is_good: bool, picture: Picture) -> Picture:
    cell = np.full((STRIP + SIDE + 4, SIDE + 4, 3), 255, np.uint8)
    cell[:STRIP, :SIDE] = GOOD if is_good else BAD
    cv2.putText(cell, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    top, left = STRIP + (SIDE - picture.shape[0]) // 2, (SIDE - picture.shape[1]) // 2
    cell[STRIP : STRIP + SIDE, :SIDE] = 225
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cell


def _figure(picture: Picture) -> NDArray[np.bool_]:
    """Where a picture differs from its plain background."""
    return np.asarray(np.abs(picture.astype(int) - _background(picture)).max(axis=2) > 40)


def _columns(picture: Picture) -> NDArray[np.int64]:
    """Columns of the figure."""
    return np.flatnonzero(_figure(picture).any(axis=0))


def _background(picture: Picture) -> Picture:
    return np.full_like(picture, np.median(picture[:8].reshape(-1, 3), axis=0).astype(np.uint8))


def _dark(picture: Picture) -> Picture:
    rng = np.random.default_rng(0)
    return np.clip(picture * 0.1 + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def main() -> None:
    """Write both sheets."""
    estimator = load_estimator("blazepose")
    for name, examples in (("references", references()), ("clips", clips())):
        write_image(IMAGES / f"{name}.png", sheet(examples, estimator))


if __name__ == "__main__":
    main()
