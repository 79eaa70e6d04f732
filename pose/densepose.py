"""The parts of the body's surface in DensePose's numbers and colours.

DensePose cuts the surface of the body into 24 parts. Its videos colour part i of 24 by the palette viridis at
``255 i / 24`` (rounded down) on the colour of 0, a dark purple.

Legend: F frames, H x W pixels.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_PARTS = 24
DENSEPOSE_NAMES = (
    "background", "torso_back", "torso_front", "right_hand", "left_hand", "left_foot", "right_foot",
    "right_thigh_back", "left_thigh_back", "right_thigh_front", "left_thigh_front",
    "right_shin_back", "left_shin_back", "right_shin_front", "left_shin_front",
    "left_upper_arm_inside", "right_upper_arm_inside", "left_upper_arm_outside", "right_upper_arm_outside",
    "left_forearm_inside", "right_forearm_inside", "left_forearm_outside", "right_forearm_outside",
    "head_right", "head_left",
)  # fmt: skip


@cache
def densepose_palette() -> NDArray[np.uint8]:
    """Colours of the background and of the 24 parts, uint8 ``25 x 3``, RGB."""
    values = (np.arange(NUM_PARTS + 1, dtype=np.float32) * np.float32(255 / NUM_PARTS)).astype(np.uint8)
    palette = cv2.applyColorMap(values[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].copy()
    palette.setflags(write=False)
    return palette.astype(np.uint8, copy=False)


def read_densepose(maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part whose colour is nearest, uint8 ``... x H x W``, of a map ``... x H x W x 3`` (RGB): undoes
    `draw_densepose`, also behind a lossy video."""
    flat = maps.reshape(-1, 3)
    colours, place = np.unique(flat, axis=0, return_inverse=True)
    far = ((colours[:, None].astype(np.int32) - densepose_palette().astype(np.int32)) ** 2).sum(-1)
    return far.argmin(1).astype(np.uint8)[place].reshape(maps.shape[:-1])


def exchange_sides(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same parts of the other side: left ones become right ones."""
    return _mirrored_numbers()[ids]


@cache
def _mirrored_numbers() -> NDArray[np.uint8]:
    swap = {"left": "right", "right": "left"}
    names = ["_".join(swap.get(word, word) for word in name.split("_")) for name in DENSEPOSE_NAMES]
    return np.array([DENSEPOSE_NAMES.index(name) for name in names], np.uint8)


def resized_parts(ids: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Parts ``F x h x w`` at another size, ``F x H x W``: the nearest pixel's part is taken."""
    if ids.shape[1:] == (height, width):
        return ids
    size = (width, height)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST_EXACT) for frame in ids])
