"""Body part that each pixel of a rendered dancer shows, with DensePose's numbering and colours.

The maps are exact, because they are computed by the renderer. Numbers and colours are those of
`pose.densepose`.

Legend: F frames, H x W pixels, V visible samples.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.raster import Surface
from mimic.dancers.skeleton import Figure
from mimic.dancers.solids import HAIR, HEAD, PART_NAMES, TORSO, Array
from pose.densepose import DENSEPOSE_NAMES, densepose_palette, resized_parts

if TYPE_CHECKING:
    from mimic.dancers.clip import RenderedClip

# For each part of the renderer, its two DensePose halves: behind and in front of the dividing plane.
_HALVES = {
    "torso": ("torso_back", "torso_front"),
    "head": ("head_right", "head_left"),
    "hair": ("head_right", "head_left"),
} | {
    f"{side}_{part}": (f"{side}_{part}{behind}", f"{side}_{part}{before}")
    for side in ("left", "right")
    for part, behind, before in (
        ("upper_arm", "_inside", "_outside"),
        ("forearm", "_inside", "_outside"),
        ("hand", "", ""),
        ("thigh", "_back", "_front"),
        ("shin", "_back", "_front"),
        ("foot", "", ""),
    )
}
# Clothes that reach further below the pelvis than this, in body heights, cover the thighs.
_TRUNK_END = -0.06


def draw_densepose(clip: RenderedClip, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the part maps of a rendered clip in the colours of a DensePose video.

    Args:
        clip: result of `render`.
        height, width: size of the maps in pixels; if it differs from the clip's, maps are resized with
            nearest-neighbour interpolation.

    Returns:
        uint8 ``F x H x W x 3``, RGB.
    """
    return densepose_palette()[resized_parts(clip.densepose_ids, height, width)]


@cache
def _numbers() -> NDArray[np.uint8]:
    """Return DensePose's numbers of both halves of each part of the renderer, ``parts x 2``."""
    halves = [_HALVES.get(name, ("background", "background")) for name in PART_NAMES]
    return np.array([[DENSEPOSE_NAMES.index(half) for half in pair] for pair in halves], np.uint8)


def densepose_parts(
    figure: Figure,
    parts: list[int],
    surface: Surface,
    *,
    axes: Array,
    centres: tuple[Array, Array],
    unit: float,
    supersample: int,
) -> NDArray[np.uint8]:
    """Compute DensePose's part at the centre of each pixel.

    Args:
        figure: the posed figure, ``F`` frames.
        parts: the renderer's part of each solid.
        surface: visible surface at the samples of ``F`` frames.
        axes: camera axes on the stage, ``3 x 3``; rows are right, down, away.
        centres: pelvis and head on the screen, ``F x 3`` each, in samples.
        unit: samples per body height.
        supersample: samples per pixel along each axis.

    Returns:
        part numbers, uint8 ``F x H x W``, 0 for background.
    """
    num_frames, height, width = surface.depth.shape
    frame, rest = np.divmod(surface.where, height * width)
    row, column = np.divmod(rest, width)
    middle = supersample // 2
    chosen = np.flatnonzero((row % supersample == middle) & (column % supersample == middle))
    frame, row, column = frame[chosen], row[chosen], column[chosen]
    part = np.asarray(parts)[surface.solid[chosen]]
    place = np.stack([column + 0.5, row + 0.5, surface.depth[frame, row, column]], axis=-1)

    planes = _plane_axes(figure) @ axes.T  # parts x F x 3
    side = (surface.normal[:, chosen].T * planes[part, frame]).sum(-1)
    pelvis, head = centres
    # A face has many small bulges, so its halves are divided by its middle plane instead of surface normals.
    is_head = (part == HEAD) | (part == HAIR)
    across = ((place - head[frame]) * planes[part, frame]).sum(-1)
    side = np.where(is_head, across, side)
    numbers = _numbers()[part, (side > 0).astype(int)]

    frames_on_screen = axes @ figure.pelvis_frame  # F x 3 x 3, columns are axes
    offset = (place - pelvis[frame]) / unit
    below = (offset * frames_on_screen[frame, :, 1]).sum(-1) < _TRUNK_END
    is_left = (offset * frames_on_screen[frame, :, 0]).sum(-1) > 0
    for left, name in ((True, "left_thigh"), (False, "right_thigh")):
        hanging = (part == TORSO) & below & (is_left == left)
        halves = _numbers()[PART_NAMES.index(name)]
        numbers[hanging] = halves[(side[hanging] > 0).astype(int)]

    ids = np.zeros((num_frames, height // supersample, width // supersample), np.uint8)
    ids[frame, row // supersample, column // supersample] = numbers
    return ids


def _plane_axes(figure: Figure) -> Array:
    """Return for each part of the renderer the normal of its dividing plane, towards its second half,
    ``parts x F x 3``."""
    planes = np.zeros((len(PART_NAMES), len(figure.pelvis), 3))
    planes[TORSO] = _unit(figure.pelvis_frame[:, :, 2] + figure.chest_frame[:, :, 2])
    planes[HEAD] = planes[HAIR] = figure.head_frame[:, :, 0]
    for side, name in ((0, "left"), (1, "right")):
        first = PART_NAMES.index(f"{name}_upper_arm")
        inside = _arm_insides(figure, side)
        planes[first], planes[first + 1] = -inside[0], -inside[1]
        hip, knee, ankle = figure.hips[side], figure.knees[side], figure.ankles[side]
        along = _unit(ankle - hip)
        # The knee always bends forward, at least slightly.
        planes[first + 3] = planes[first + 4] = _unit(
            knee - hip - ((knee - hip) * along).sum(-1, keepdims=True) * along
        )
    return planes


def _arm_insides(figure: Figure, side: int) -> tuple[Array, Array]:
    """Return the directions that the inner sides of upper arm and forearm face, ``F x 3`` each.

    That of the upper arm is the axis of the elbow; the forearm follows half of the hand's rotation.
    """
    sign = 1.0 if side == 0 else -1.0
    upper = _unit(figure.elbows[side] - figure.shoulders[side])
    forearm = _unit(figure.wrists[side] - figure.elbows[side])
    hinge = _unit(sign * np.cross(upper, forearm))
    palm = sign * np.cross(forearm, figure.hand_frames[side][:, :, 0])
    return hinge, _unit(hinge + palm)


def _unit(vector: Array) -> Array:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)
