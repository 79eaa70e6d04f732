"""Paint the background behind a dancer: one colour, a gradient, stripes or a soft texture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.dancers.character import Background


def paint_background(background: Background, height: int, width: int) -> NDArray[np.uint8]:
    """Paint the background, uint8 ``H x W x 3`` RGB.

    Raises:
        ValueError: the kind of background is unknown.
    """
    first, second = (
        255 * np.array(background.first, np.float32),
        255 * np.array(background.second, np.float32),
    )
    if background.kind == "plain":
        return np.broadcast_to((first + 0.5).astype(np.uint8), (height, width, 3)).copy()
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height - 0.5
    x = ((np.arange(width, dtype=np.float32)[None, :] + 0.5) - width / 2) / height
    across = np.float32(np.cos(background.angle)) * x + np.float32(np.sin(background.angle)) * y
    if background.kind == "gradient":
        reach = abs(np.cos(background.angle)) * width / height / 2 + abs(np.sin(background.angle)) / 2
        mix = 0.5 + 0.5 * across / max(reach, 1e-6)
    elif background.kind == "striped":
        phase = (across / background.period) % 1.0
        edge = 1.0 / (height * background.period)  # width of one sample, to smooth slanted edges
        mix = np.clip(0.5 + (0.25 - np.abs(phase - 0.5)) / edge, 0, 1)
    elif background.kind == "textured":
        mix = _clouds(background, height, width)
    else:
        raise ValueError(
            f"background kind {background.kind!r} is unknown; use plain, gradient, striped or textured"
        )
    mix = mix.astype(np.float32)
    return cv2.merge([(low + mix * (high - low) + 0.5).astype(np.uint8) for low, high in zip(first, second)])


def _clouds(background: Background, height: int, width: int) -> NDArray[np.float32]:
    """Sum three octaves of smooth noise; the pattern is the same at every resolution."""
    rng = np.random.default_rng(background.seed)
    total = np.zeros((height, width), np.float32)
    cells = max(2, round(0.6 / background.period))
    for octave in range(3):
        count = cells * 2**octave
        grid = rng.uniform(0, 1, (count + 3, count + 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return np.clip(total / 1.75, 0, 1)
