"""The solids of a head, its face and its hair."""

from __future__ import annotations

import numpy as np

from mimic.dancers import face
from mimic.dancers.character import Character, Colour
from mimic.dancers.skeleton import Figure
from mimic.dancers.solids import HAIR, HEAD, ROUND, Array, SolidList, tint


def add_head(solids: SolidList, character: Character, figure: Figure) -> None:
    body, outfit = character.body, character.outfit
    unit = body.head * body.height
    frame = figure.head_frame
    skin = outfit.skin

    def at(x: float, y: float, z: float) -> Array:
        return figure.head + unit * (frame @ np.array([x, y, z]))

    def ellipsoid(
        colour: Colour, centre: Array, radii: tuple[float, float, float], gloss: float = 0.0
    ) -> None:
        solids.add(HEAD, colour, centre, centre, unit, frame=frame, scale=radii, gloss=gloss)

    ellipsoid(skin, at(*face.SKULL_CENTRE), tuple(face.SKULL_RADII))
    solids.add(
        HEAD, skin, at(*face.JAW_FROM), at(*face.JAW_TO), face.JAW_RADII[0] * unit, face.JAW_RADII[1] * unit
    )
    brow_colour = tint(outfit.hair, 0.75 if sum(outfit.hair) > 0.9 else 1.0)
    for sign in (-1.0, 1.0):
        ellipsoid(tint(skin, 0.97), at(sign * face.EAR[0], face.EAR[1], face.EAR[2]), (0.09, 0.2, 0.13))
        x, y = sign * face.EYE_X, face.EYE_Y
        z = face.front_at(x, y)
        ellipsoid((0.97, 0.97, 0.96), at(x, y, z - 0.045), (0.165, 0.115, 0.09), 0.2)
        ellipsoid(outfit.iris, at(x, y, z - 0.005), (0.092, 0.1, 0.06), 0.3)
        ellipsoid((0.05, 0.05, 0.06), at(x, y, z + 0.028), (0.05, 0.054, 0.035), 0.6)
        lid = 0.09
        left, right = at(x - 0.14, y + lid, z - 0.01), at(x + 0.14, y + lid, z - 0.01)
        solids.add(HEAD, tint(brow_colour, 0.6), left, right, 0.022 * unit)
        inner, top, outer = face.BROW[0], face.BROW[2], face.BROW[4]
        for start, end, r0, r1 in ((inner, top, 0.038, 0.04), (top, outer, 0.04, 0.025)):
            p, q = (
                at(sign * v[0], v[1], face.front_at(float(v[0]), float(v[1])) - 0.005) for v in (start, end)
            )
            solids.add(HEAD, brow_colour, p, q, r0 * unit, r1 * unit)
    bridge = at(0, 0.04, face.front_at(0, 0.04) - 0.04)
    tip = at(0, face.NOSE_TIP_Y, face.front_at(0, face.NOSE_TIP_Y) + 0.09)
    solids.add(HEAD, tint(skin, 0.985), bridge, tip, 0.055 * unit, 0.1 * unit)
    for sign in (-1.0, 1.0):
        solids.add(
            HEAD,
            tint(skin, 0.93),
            at(sign * 0.085, -0.285, face.front_at(0.085, -0.285) + 0.02),
            at(sign * 0.085, -0.285, face.front_at(0.085, -0.285) + 0.03),
            0.062 * unit,
        )
    _mouth(solids, outfit.lips, figure, unit)


def _mouth(solids: SolidList, lips: Colour, figure: Figure, unit: float) -> None:
    frame, opening = figure.head_frame, figure.mouth[:, None]

    def at(x: float, y: float, push: float) -> Array:
        return figure.head + unit * (frame @ np.array([x, y, face.front_at(x, y) + push]))

    y, w = face.MOUTH_Y, face.MOUTH_HALF_WIDTH
    down = -unit * 0.15 * opening * frame[:, :, 1]
    inside = at(0, y - 0.01, -0.03) + 0.45 * down
    solids.add(HEAD, (0.32, 0.08, 0.09), inside, inside, unit, frame=frame, scale=(0.85 * w, 0.055, 0.05))
    for sign in (-1.0, 1.0):
        corner = at(sign * w, y + 0.024, -0.012)
        solids.add(HEAD, lips, corner, at(0, y + 0.028, 0.0), 0.022 * unit, 0.04 * unit)
        solids.add(HEAD, tint(lips, 1.12), corner, at(0, y - 0.045, 0.0) + down, 0.022 * unit, 0.046 * unit)


def add_hair(solids: SolidList, character: Character, figure: Figure) -> None:
    body, outfit = character.body, character.outfit
    unit = body.head * body.height
    frame, style = figure.head_frame, outfit.hair_style
    down = np.array([0.0, -1.0, 0.0])

    def at(x: float, y: float, z: float) -> Array:
        return figure.head + unit * (frame @ np.array([x, y, z]))

    def add(a: Array, b: Array, ra: float, rb: float, scale: tuple[float, float, float] = ROUND) -> None:
        solids.add(HAIR, outfit.hair, a, b, ra * unit, rb * unit, frame=frame, scale=scale, gloss=0.25)

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> None:
        add(at(*centre), at(*centre), 1.0, 1.0, radii)

    if style == "buzz":
        ellipsoid((0, 0.235, -0.1), (0.77, 0.83, 0.885))
        return
    if style == "afro":
        ellipsoid((0, 0.36, -0.26), (1.08, 0.98, 1.0))
        return
    ellipsoid((0, 0.25, -0.17), (0.815, 0.85, 0.89))  # the cap
    # A fringe swept to one side.
    add(at(-0.1, 0.8, 0.42), at(-0.61, 0.4, 0.3), 0.2, 0.14)
    add(at(-0.1, 0.8, 0.42), at(0.61, 0.42, 0.3), 0.2, 0.13)
    if style == "short":
        for sign in (-1.0, 1.0):
            add(at(sign * 0.68, 0.3, -0.05), at(sign * 0.7, 0.02, 0.02), 0.16, 0.07)
        return
    back = at(0, 0.05, -0.45)
    if style == "bob":
        add(back, at(0, -0.55, -0.42), 0.72, 0.62, (1.05, 1.0, 0.8))
        for sign in (-1.0, 1.0):
            add(at(sign * 0.6, 0.35, -0.12), at(sign * 0.62, -0.58, -0.16), 0.28, 0.27)
    elif style == "long":
        fall = back + unit * 1.65 * down + unit * 0.35 * (frame @ np.array([0, -1.0, -0.3]))
        add(back, fall, 0.7, 0.5, (1.02, 1.0, 0.62))
        for sign in (-1.0, 1.0):
            top = at(sign * 0.6, 0.35, -0.14)
            add(
                top, top + unit * 1.55 * down + unit * 0.12 * (frame @ np.array([sign, -1.0, 0.2])), 0.28, 0.2
            )
    elif style == "bun":
        ellipsoid((0, 1.12, -0.32), (0.36, 0.33, 0.36))
    elif style == "ponytail":
        root = at(0, 0.55, -0.98)
        ellipsoid((0, 0.55, -0.98), (0.2, 0.2, 0.2))
        middle = root + unit * (0.75 * down + frame @ np.array([0, -0.15, -0.38]))
        add(root, middle, 0.2, 0.27)
        add(middle, middle + unit * (0.85 * down + frame @ np.array([0, -0.1, 0.1])), 0.27, 0.1)
