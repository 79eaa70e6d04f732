"""Render a character and a motion at given times to pictures, exact poses and part maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.dancers.background import paint_background
from mimic.dancers.body_parts import densepose_parts
from mimic.dancers.character import Camera, Character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import Motion
from mimic.dancers.poses import stage_points, visibility
from mimic.dancers.raster import Solids, Surface, rasterise
from mimic.dancers.shapes import dress
from mimic.dancers.skeleton import pose_body
from mimic.dancers.solids import SolidList
from pose.types import PoseSequence

# Body heights shown along each side of the picture at zoom 1; head, feet and spread arms fit in.
FRAME_HEIGHTS = 1.15
# Frames are rendered in groups of about this many samples, to limit memory.
_CHUNK_SAMPLES = 2_000_000


@dataclass(frozen=True)
class _View:
    """Projection from the stage to samples."""

    axes: NDArray[np.float64]  # rows: right, down, away
    centre: NDArray[np.float64]
    unit: float  # samples per body height, at the distance of the stage's centre
    distance: float
    middle: tuple[float, float]

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return screen positions ``... x 3`` in samples, and samples per body height there, ``...``."""
        seen = (points - self.centre) @ self.axes.T
        scale = self.unit * self.distance / np.maximum(self.distance + seen[..., 2], 0.1)
        screen = np.empty_like(seen)
        screen[..., 0] = self.middle[0] + scale * seen[..., 0]
        screen[..., 1] = self.middle[1] + scale * seen[..., 1]
        screen[..., 2] = self.unit * seen[..., 2]
        return screen, scale


def _view(camera: Camera, height: int, width: int) -> _View:
    pitch = np.radians(camera.pitch_deg)
    cosine, sine = np.cos(pitch), np.sin(pitch)
    axes = np.array([[1.0, 0, 0], [0, -cosine, -sine], [0, -sine, -cosine]])
    axes[1] = [0, -cosine, sine]
    unit = min(height, width) / FRAME_HEIGHTS * camera.zoom
    centre = np.array([camera.look_at[0], camera.look_at[1], 0.0])
    return _View(axes, centre, unit, camera.distance, (width / 2, height / 2))


def render(
    character: Character,
    motion: Motion,
    times_s: Sequence[float] | NDArray[np.floating],
    height: int,
    width: int,
    *,
    supersample: int = 2,
    fps: float | None = None,
) -> RenderedClip:
    """Render a dance at the given times.

    Args:
        character: the dancer and the scene.
        motion: the dance; any character can perform any motion.
        times_s: ``F`` times in seconds, in any order.
        height, width: size of the pictures in pixels; the body fits the shorter side.
        supersample: samples per pixel along each axis; 1 is fast with jagged edges, 2 to 4 are smooth.
        fps: frame rate stored with the poses; None takes that of the median interval between times.

    Raises:
        ValueError: there are no times, or the size or `supersample` is too small.
    """
    times = np.asarray(times_s, float).reshape(-1)
    if len(times) == 0 or height < 8 or width < 8 or supersample < 1:
        raise ValueError(
            f"cannot render {len(times)} frames of {width}x{height} with {supersample} samples a pixel;"
            " expected at least one time, 8x8 pixels and one sample"
        )
    h, w = height * supersample, width * supersample
    view = _view(character.camera, h, w)
    backdrop = paint_background(character.background, h, w)
    step = max(1, _CHUNK_SAMPLES // (h * w))
    parts = [
        _render_chunk(character, motion, times[i : i + step], view, backdrop, supersample)
        for i in range(0, len(times), step)
    ]
    frames, part_ids, densepose_ids, points, scores = (np.concatenate(arrays) for arrays in zip(*parts))
    if fps is None:
        spacing = float(np.median(np.abs(np.diff(times)))) if len(times) > 1 else 0.0
        fps = 1 / spacing if spacing > 0 else 25.0
    poses = PoseSequence(points[:, None], scores[:, None], height, width, fps=fps)
    return RenderedClip(frames, poses, part_ids > 0, part_ids, densepose_ids)


def _render_chunk(
    character: Character,
    motion: Motion,
    times: NDArray[np.float64],
    view: _View,
    backdrop: NDArray[np.uint8],
    supersample: int,
) -> tuple[NDArray[Any], ...]:
    h, w = backdrop.shape[:2]
    figure = pose_body(character.body, motion.at(times))
    solids = dress(character, figure)
    surface = rasterise(_on_screen(solids, view), h, w)
    seen_part = np.array([0, *solids.part], np.uint8)[surface.shown]
    frames = _shade(character, solids, view, surface, backdrop)
    frames = _shrink(frames, supersample)
    part_ids = np.ascontiguousarray(
        seen_part[:, supersample // 2 :: supersample, supersample // 2 :: supersample]
    )
    densepose_ids = densepose_parts(
        figure,
        solids.part,
        surface,
        axes=view.axes,
        centres=(view.project(figure.pelvis)[0], view.project(figure.head)[0]),
        unit=view.unit,
        supersample=supersample,
    )
    screen, _ = view.project(stage_points(character.body, figure))
    to_camera = -view.axes[2]
    scores = visibility(
        screen[..., :2],
        screen[..., 2],
        view.unit * character.body.height,
        to_camera,
        figure,
        surface.depth,
        seen_part,
    )
    return frames, part_ids, densepose_ids, screen[..., :2] / [w, h], scores


def _on_screen(solids: SolidList, view: _View) -> Solids:
    ends, scale = view.project(np.stack([np.stack(solids.a), np.stack(solids.b)]))
    stretch = np.empty((len(solids.a), solids.num_frames, 3, 3), np.float32)
    stretch[:] = np.eye(3, dtype=np.float32)
    if solids.stretched:
        axes = view.axes @ np.stack(solids.frames)
        factors = np.array(solids.scales)[:, None, None, :]
        stretch[solids.stretched] = (axes * factors) @ np.swapaxes(axes, -1, -2)
    ends = ends.astype(np.float32)
    radii = (np.array([solids.ra, solids.rb])[:, :, None] * scale).astype(np.float32)
    return Solids(ends[0], ends[1], radii[0], radii[1], stretch)


def _shade(
    character: Character, solids: SolidList, view: _View, surface: Surface, backdrop: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Shade the surface with one soft light, ambient light, darker rims and highlights."""
    light = np.array(character.light.direction, np.float32)
    ambient = np.float32(character.light.ambient)
    n = surface.normal
    lambert = light @ n
    wrapped = np.maximum(lambert * np.float32(0.75) + np.float32(0.25), 0)
    facing = np.minimum(-n[2], 1)
    away = 1 - facing
    shade = (ambient + (np.float32(1.12) - ambient) * wrapped) * (1 - np.float32(0.38) * away * away * away)
    first = np.array(solids.first, np.float32) * 255
    colour = first[surface.solid]
    _paint_rings(colour, solids, view, surface)
    colour *= shade[:, None]
    gloss = np.array(solids.gloss, np.float32)
    if gloss.any():
        index = np.flatnonzero(gloss[surface.solid] > 0)
        half = light + np.array([0, 0, -1], np.float32)
        half /= np.linalg.norm(half)
        colour[index] += (150 * gloss[surface.solid[index]] * np.maximum(half @ n[:, index], 0) ** 24)[
            :, None
        ]
    np.minimum(colour, 255, out=colour)
    canvas = np.empty((len(surface.depth), *backdrop.shape), np.uint8)
    canvas[:] = backdrop
    canvas.reshape(-1, 3)[surface.where] = colour.astype(np.uint8)
    return canvas


def _paint_rings(colour: NDArray[np.float32], solids: SolidList, view: _View, surface: Surface) -> None:
    """Paint the samples on every other ring in the solid's second colour."""
    ringed = [i for i, rings in enumerate(solids.rings) if rings is not None]
    if not ringed:
        return
    rings = [solids.rings[i] for i in ringed]
    origin, _ = view.project(np.stack([r.origin for r in rings if r]))
    axis = np.stack([r.axis for r in rings if r]) @ view.axes.T / view.unit
    order = np.full(len(solids.rings), -1)
    order[ringed] = np.arange(len(ringed))
    index = np.flatnonzero(order[surface.solid] >= 0)
    of, where = order[surface.solid[index]], surface.where[index]
    _, height, width = surface.depth.shape
    frame, rest = np.divmod(where, height * width)
    row, column = np.divmod(rest, width)
    place = np.stack([column + 0.5, row + 0.5, surface.depth.reshape(-1)[where]], axis=-1)
    number = ((place - origin[of, frame]) * axis[of, frame]).sum(-1)
    is_second = (number % 1.0) > 0.5
    second = np.array(solids.second, np.float32) * 255
    colour[index[is_second]] = second[surface.solid[index[is_second]]]


def _shrink(frames: NDArray[np.uint8], supersample: int) -> NDArray[np.uint8]:
    if supersample == 1:
        return frames
    num_frames, h, w = frames.shape[:3]
    size = (w // supersample, h // supersample)
    out = np.empty((num_frames, size[1], size[0], 3), np.uint8)
    for i in range(num_frames):
        cv2.resize(frames[i], size, dst=out[i], interpolation=cv2.INTER_AREA)
    return out
