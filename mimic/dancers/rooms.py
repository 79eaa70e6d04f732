"""Rooms and patterns without people, for testing that pose estimators find nobody in them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.dancers.background import paint_background
from mimic.dancers.character import Background

Picture = NDArray[np.uint8]


def paint_room(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Paint a furnished room, uint8 ``H x W x 3`` RGB: walls, floor, window, shelves, lamp, chairs, plant."""
    horizon = int(height * rng.uniform(0.55, 0.75))
    picture = np.empty((height, width, 3), np.uint8)
    picture[:horizon] = paint_background(_surface(rng), horizon, width)
    picture[horizon:] = paint_background(_surface(rng), height - horizon, width)
    pieces = [_window, _shelf, _lamp, _chair, _plant, _frame, _coat]
    for piece in rng.choice(len(pieces), size=int(rng.integers(3, 7))):
        x = int(rng.uniform(0.05, 0.8) * width)
        size = int(rng.uniform(0.18, 0.45) * height)
        pieces[int(piece)](picture, rng, x, horizon, size)
    light = np.linspace(rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.1), width)[None, :, None]
    noise = rng.normal(0, 4, picture.shape)
    return np.clip(picture * light + noise, 0, 255).astype(np.uint8)


def paint_pattern(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Paint a texture, stripes, a gradient or blobs, uint8 ``H x W x 3`` RGB."""
    kind = str(rng.choice(["textured", "striped", "gradient", "blobs"]))
    if kind != "blobs":
        return paint_background(_surface(rng, kind), height, width)
    picture = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    for _ in range(30):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(rng.uniform(0.02, 0.15) * width), int(rng.uniform(0.02, 0.15) * height))
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), 0, 360, _colour(rng), -1, cv2.LINE_AA)
    return picture


def _surface(rng: np.random.Generator, kind: str | None = None) -> Background:
    first = tuple(float(value) for value in rng.uniform(0.15, 0.95, 3))
    second = tuple(float(value) for value in np.clip(np.array(first) + rng.normal(0, 0.12, 3), 0, 1))
    return Background(
        kind=kind or str(rng.choice(["plain", "gradient", "striped", "textured"])),
        first=(first[0], first[1], first[2]),
        second=(second[0], second[1], second[2]),
        angle=float(rng.uniform(0, np.pi)),
        period=float(rng.uniform(0.1, 0.4)),
        seed=int(rng.integers(2**31)),
    )


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(value) for value in rng.integers(20, 240, 3))
    return r, g, b


def _box(picture: Picture, colour: tuple[int, int, int], x: float, y: float, w: float, h: float) -> None:
    cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)


def _window(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    frame, sky = _colour(rng), _colour(rng)
    _box(picture, frame, x, floor - 1.8 * size, size, 1.2 * size)
    for column in (0.06, 0.53):
        for row in (0.06, 0.63):
            _box(picture, sky, x + column * size, floor + (row - 1.8) * size, 0.4 * size, 0.5 * size)


def _shelf(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    _box(picture, _colour(rng), x, floor - 1.4 * size, size, 1.4 * size)
    for row in range(4):
        place = 0.04
        while place < 0.88:
            breadth, height = rng.uniform(0.04, 0.1), rng.uniform(0.18, 0.28)
            bottom = floor - 1.4 * size + (0.34 * row + 0.31) * size
            _box(
                picture, _colour(rng), x + place * size, bottom - height * size, breadth * size, height * size
            )
            place += breadth + 0.01


def _lamp(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    """Paint a standing lamp: a pole with a round shade, which resembles a person."""
    colour = _colour(rng)
    _box(picture, colour, x + 0.24 * size, floor - 1.2 * size, 0.03 * size, 1.3 * size)
    centre = (int(x + 0.25 * size), int(floor - 1.2 * size))
    cv2.ellipse(picture, centre, (size // 5, size // 4), 0, 0, 360, _colour(rng), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (centre[0], floor + size // 10), (size // 4, size // 16), 0, 0, 360, colour, -1)


def _chair(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    colour = _colour(rng)
    _box(picture, colour, x, floor - 0.6 * size, 0.5 * size, 0.5 * size)
    _box(picture, _colour(rng), x - 0.04 * size, floor - 0.12 * size, 0.58 * size, 0.1 * size)
    for leg in (0.0, 0.44):
        _box(picture, colour, x + leg * size, floor - 0.05 * size, 0.06 * size, 0.4 * size)


def _plant(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    _box(picture, _colour(rng), x, floor - 0.1 * size, 0.3 * size, 0.35 * size)
    for _ in range(14):
        angle, reach = rng.uniform(-2.8, -0.3), rng.uniform(0.3, 0.8) * size
        root = np.array([x + 0.15 * size, floor - 0.1 * size])
        middle = root + 0.5 * reach * np.array([np.cos(angle), np.sin(angle)])
        axes = (int(reach / 2), max(2, int(reach / 9)))
        green = (int(rng.integers(10, 90)), int(rng.integers(80, 190)), int(rng.integers(10, 90)))
        centre = (int(middle[0]), int(middle[1]))
        cv2.ellipse(picture, centre, axes, np.degrees(angle), 0, 360, green, -1, cv2.LINE_AA)


def _frame(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    """Paint a framed landscape on the wall."""
    _box(picture, _colour(rng), x, floor - 1.5 * size, 0.8 * size, 0.6 * size)
    _box(picture, _colour(rng), x + 0.05 * size, floor - 1.45 * size, 0.7 * size, 0.3 * size)
    _box(picture, _colour(rng), x + 0.05 * size, floor - 1.2 * size, 0.7 * size, 0.25 * size)
    centre = (int(x + rng.uniform(0.2, 0.6) * size), int(floor - 1.32 * size))
    cv2.circle(picture, centre, max(2, size // 16), _colour(rng), -1, cv2.LINE_AA)


def _coat(picture: Picture, rng: np.random.Generator, x: int, floor: int, size: int) -> None:
    """Paint a coat on a hanger: shoulders and sleeves without a person."""
    shape = np.array([[0.5, 0.0], [0.85, 0.12], [1.0, 0.8], [0.84, 0.82], [0.76, 0.35], [0.78, 1.1]])
    shape = np.concatenate([shape, (shape * [-1, 1] + [1.0, 0])[::-1]])
    place = np.array([x, floor - 1.5 * size]) + 0.7 * size * shape
    cv2.fillPoly(picture, [np.rint(place).astype(np.int32)], _colour(rng), cv2.LINE_AA)
