"""What solids is a dancer made of? A posed figure and its outfit become coloured swept spheres."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimic.data.synthetic import face
from mimic.data.synthetic.character import Character, Colour
from mimic.data.synthetic.skeleton import Figure

Array = NDArray[np.float64]

# Values of `Clip.part_ids`.
NO_PART, TORSO, HEAD, HAIR = 0, 1, 2, 3
LEFT_UPPER_ARM, LEFT_FOREARM, LEFT_HAND, LEFT_THIGH, LEFT_SHIN, LEFT_FOOT = range(4, 10)
RIGHT_UPPER_ARM, RIGHT_FOREARM, RIGHT_HAND, RIGHT_THIGH, RIGHT_SHIN, RIGHT_FOOT = range(10, 16)
PART_NAMES = (
    "background", "torso", "head", "hair",
    "left_upper_arm", "left_forearm", "left_hand", "left_thigh", "left_shin", "left_foot",
    "right_upper_arm", "right_forearm", "right_hand", "right_thigh", "right_shin", "right_foot",
)  # fmt: skip

_ROUND = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Rings:
    """Rings on a part, number ``(place - origin) . axis``; the later half of each has the other colour."""

    origin: Array
    axis: Array
    """``F x 3``, rings a stage unit."""


@dataclass
class SolidList:
    """Solids in stage coordinates while they are collected; ``F`` frames each."""

    num_frames: int
    a: list[Array] = field(default_factory=list)
    b: list[Array] = field(default_factory=list)
    ra: list[float] = field(default_factory=list)
    rb: list[float] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    first: list[Colour] = field(default_factory=list)
    second: list[Colour] = field(default_factory=list)
    rings: list[Rings | None] = field(default_factory=list)
    gloss: list[float] = field(default_factory=list)
    stretched: list[int] = field(default_factory=list)
    frames: list[Array] = field(default_factory=list)
    scales: list[tuple[float, float, float]] = field(default_factory=list)

    def add(
        self,
        part: int,
        colour: Colour,
        a: Array,
        b: Array,
        ra: float,
        rb: float | None = None,
        *,
        frame: Array | None = None,
        scale: tuple[float, float, float] = _ROUND,
        second: Colour | None = None,
        rings: Rings | None = None,
        gloss: float = 0.0,
    ) -> None:
        """One swept sphere; with a frame ``F x 3 x 3``, stretched by `scale` along the frame's columns."""
        if frame is not None:
            self.stretched.append(len(self.a))
            self.frames.append(frame)
            self.scales.append(scale)
        self.a.append(a)
        self.b.append(b)
        self.ra.append(ra)
        self.rb.append(ra if rb is None else rb)
        self.part.append(part)
        self.first.append(colour)
        self.second.append(second or colour)
        self.rings.append(rings)
        self.gloss.append(gloss)


def _at(origin: Array, frame: Array, offset: tuple[float, float, float] | Array, unit: float) -> Array:
    return origin + unit * (frame @ np.asarray(offset, float))


def _tint(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(1.0, c * factor) for c in colour)
    return r, g, b


def dress(character: Character, figure: Figure) -> SolidList:
    """All solids of a figure ``F`` frames long."""
    solids = SolidList(len(figure.pelvis))
    _trunk(solids, character, figure)
    for side in (0, 1):
        _arm(solids, character, figure, side)
        _hand(solids, character, figure, side)
        _leg(solids, character, figure, side)
    _head(solids, character, figure)
    _hair(solids, character, figure)
    return solids


def _trunk(solids: SolidList, character: Character, figure: Figure) -> None:
    body, outfit = character.body, character.outfit
    unit = body.height
    chest_frame, pelvis_frame = figure.chest_frame, figure.pelvis_frame
    rate = outfit.num_stripes / 0.19 / unit
    low_rings = Rings(figure.waist, rate * pelvis_frame[:, :, 1]) if rate else None
    high_rings = Rings(figure.waist, rate * chest_frame[:, :, 1]) if rate else None

    def cloth(
        a: Array, b: Array, ra: float, rb: float, flat: float, frame: Array, rings: Rings | None
    ) -> None:
        solids.add(
            TORSO,
            outfit.top,
            a,
            b,
            ra * unit,
            rb * unit,
            frame=frame,
            scale=(1.0, 0.6, flat),
            second=outfit.top_second,
            rings=rings,
        )

    hem = _at(figure.pelvis, pelvis_frame, (0, 0.026, 0.001), unit)
    belly = _at(figure.waist, pelvis_frame, (0, 0.006, 0.003), unit)
    ribs = _at(figure.chest, chest_frame, (0, 0.012, 0.004), unit)
    top = _at(figure.neck, chest_frame, (0, -0.052, -0.001), unit)
    cloth(hem, belly, body.hips * 1.0, body.waist * 1.04, 0.7, pelvis_frame, low_rings)
    cloth(belly, ribs, body.waist * 1.04, body.chest * 1.02, 0.68, chest_frame, high_rings)
    cloth(ribs, top, body.chest * 1.02, body.chest * 1.06, 0.62, chest_frame, high_rings)
    throat = _at(figure.neck, chest_frame, (0, 0.0, -0.01), unit)
    breast = _at(figure.chest, chest_frame, (0, 0.056, 0.0), unit)
    for side in (0, 1):  # shoulders slope from the neck to the arms; the breast rounds into them
        for inner, r in ((throat, 0.034), (breast, 0.0475)):
            solids.add(
                TORSO,
                outfit.top,
                inner,
                figure.shoulders[side],
                r * unit,
                0.0318 * unit,
                second=outfit.top_second,
                rings=high_rings,
            )
    collar = _at(figure.neck, chest_frame, (0, 0.006, 0.006), unit)
    nape = figure.head + unit * body.head * (figure.head_frame @ np.array([0, -0.4, -0.1]))
    solids.add(HEAD, _tint(outfit.skin, 0.94), collar, nape, 0.0325 * unit, 0.029 * unit)
    low = _at(figure.pelvis, pelvis_frame, (0, -0.012, -0.002), unit)
    belt = _at(figure.pelvis, pelvis_frame, (0, 0.028, 0.0), unit)
    solids.add(
        TORSO,
        outfit.bottom,
        low,
        belt,
        body.hips * 0.95 * unit,
        body.hips * 0.97 * unit,
        frame=pelvis_frame,
        scale=(1.0, 0.58, 0.72),
    )
    if outfit.bottoms == "skirt":
        _skirt(solids, character, figure)


def _skirt(solids: SolidList, character: Character, figure: Figure) -> None:
    """A flared cone that hangs from the pelvis and follows the thighs, which it also clothes."""
    body, outfit = character.body, character.outfit
    unit, girth = body.height, body.height * body.girth
    thighs = 0.5 * (figure.knees[0] + figure.knees[1]) - figure.pelvis
    down = _at(figure.pelvis, figure.pelvis_frame, (0, -0.12, 0), unit) - figure.pelvis
    hem = figure.pelvis + 0.45 * down + 0.3 * thighs
    top = _at(figure.pelvis, figure.pelvis_frame, (0, 0.02, 0), unit)
    middle = _at(figure.pelvis, figure.pelvis_frame, (0, -0.02, 0), unit)
    flat = (1.0, 0.3, 0.76)
    for a, b, ra, rb in (
        (top, middle, body.hips, body.hips * 1.2),
        (middle, hem, body.hips * 1.2, body.hips * 1.4),
    ):
        solids.add(TORSO, outfit.bottom, a, b, ra * unit, rb * unit, frame=figure.pelvis_frame, scale=flat)
    for side, part in ((0, LEFT_THIGH), (1, RIGHT_THIGH)):
        hip, knee = figure.hips[side], figure.knees[side]
        solids.add(part, outfit.bottom, hip, hip + 0.5 * (knee - hip), 0.047 * girth, 0.046 * girth)


def _arm(solids: SolidList, character: Character, figure: Figure, side: int) -> None:
    body, outfit = character.body, character.outfit
    girth = body.height * body.girth
    upper_part, fore_part = (LEFT_UPPER_ARM, LEFT_FOREARM) if side == 0 else (RIGHT_UPPER_ARM, RIGHT_FOREARM)
    shoulder, elbow, wrist = figure.shoulders[side], figure.elbows[side], figure.wrists[side]
    is_long = outfit.sleeves == "long"
    upper_colour = outfit.top if is_long else outfit.skin
    wide = 1.1 if is_long else 1.0
    solids.add(upper_part, upper_colour, shoulder, elbow, 0.0285 * girth * wide, 0.0235 * girth * wide)
    belly = elbow + 0.28 * (wrist - elbow)
    solids.add(fore_part, upper_colour, elbow, belly, 0.0228 * girth * wide, 0.0238 * girth * wide)
    end = elbow + (0.94 if is_long else 1.0) * (wrist - elbow)
    solids.add(
        fore_part, upper_colour, belly, end, 0.0238 * girth * wide, (0.019 if is_long else 0.0158) * girth
    )
    if outfit.sleeves == "short":
        cuff = shoulder + 0.52 * (elbow - shoulder)
        solids.add(upper_part, outfit.top, shoulder, cuff, 0.0345 * girth, 0.0318 * girth)
    elif outfit.sleeves == "long":
        solids.add(
            upper_part,
            outfit.top,
            shoulder,
            shoulder + 0.15 * (elbow - shoulder),
            0.0335 * girth,
            0.031 * girth,
        )


def _hand(solids: SolidList, character: Character, figure: Figure, side: int) -> None:
    body, outfit = character.body, character.outfit
    part = LEFT_HAND if side == 0 else RIGHT_HAND
    size = body.hand * body.height
    points, frame = figure.hands[side], figure.hand_frames[side]  # F x 21 x 3
    skin = outfit.skin
    wrist = points[:, 0]
    solids.add(
        part,
        skin,
        figure.elbows[side] + 0.97 * (wrist - figure.elbows[side]),
        wrist,
        0.155 * size,
        0.15 * size,
    )
    heel = wrist + size * (frame @ np.array([0.0, 0.16, 0.0]))
    knuckles = wrist + size * (frame @ np.array([0.005, 0.40, 0.0]))
    solids.add(part, skin, heel, knuckles, 0.19 * size, 0.235 * size, frame=frame, scale=(1.0, 1.0, 0.48))
    solids.add(part, skin, wrist, points[:, 1], 0.12 * size, 0.115 * size)
    thickness = np.array([0.082, 0.072, 0.075, 0.071, 0.063]) * size
    for finger in range(5):
        for joint in range(3):
            i = 1 + 4 * finger + joint
            r = float(thickness[finger])
            tint = 0.97 if finger in (2, 4) else 1.0
            solids.add(
                part,
                _tint(skin, tint),
                points[:, i],
                points[:, i + 1],
                r * (1.06 - 0.06 * joint),
                r * (1.0 - 0.07 * joint),
            )


def _leg(solids: SolidList, character: Character, figure: Figure, side: int) -> None:
    body, outfit = character.body, character.outfit
    unit, girth = body.height, body.height * body.girth
    thigh_part, shin_part, foot_part = (
        (LEFT_THIGH, LEFT_SHIN, LEFT_FOOT) if side == 0 else (RIGHT_THIGH, RIGHT_SHIN, RIGHT_FOOT)
    )
    hip, knee, ankle = figure.hips[side], figure.knees[side], figure.ankles[side]
    foot = figure.foot_frames[side]
    trousers = outfit.bottoms == "trousers"
    leg = outfit.bottom if trousers else outfit.skin
    wide = 1.07 if trousers else 1.0
    solids.add(thigh_part, leg, hip, knee, 0.0455 * girth * wide, 0.0318 * girth * wide)
    calf = knee + 0.3 * (ankle - knee) - 0.003 * unit * foot[:, :, 2]
    solids.add(shin_part, leg, knee, calf, 0.0318 * girth * wide, 0.031 * girth * wide)
    end = ankle + (0.06 * (knee - ankle) if trousers else 0)
    solids.add(shin_part, leg, calf, end, 0.031 * girth * wide, (0.026 if trousers else 0.0195) * girth)
    if outfit.bottoms == "shorts":
        hem = hip + 0.62 * (knee - hip)
        solids.add(thigh_part, outfit.bottom, hip, hem, 0.0495 * girth, 0.0435 * girth)
    length = body.foot * unit
    drop = -body.ankle_height * unit
    heel = ankle + foot @ np.array([0, drop + 0.027 * unit, -0.2 * length])
    instep = ankle + foot @ np.array([0, drop + 0.034 * unit, 0.14 * length])
    toe = ankle + foot @ np.array([0, drop + 0.0215 * unit, 0.6 * length])
    solids.add(
        foot_part, outfit.shoes, ankle - 0.004 * unit * foot[:, :, 1], heel, 0.022 * unit, 0.026 * unit
    )
    solids.add(
        foot_part, outfit.shoes, instep, toe, 0.03 * unit, 0.0225 * unit, frame=foot, scale=(1.05, 0.95, 1.0)
    )
    solids.add(foot_part, outfit.shoes, heel, instep, 0.0265 * unit, 0.03 * unit)
    sole_y = drop + 0.008 * unit
    solids.add(
        foot_part,
        outfit.sole,
        ankle + foot @ np.array([0, sole_y, -0.2 * length]),
        ankle + foot @ np.array([0, sole_y, 0.6 * length]),
        0.0285 * unit,
        0.0275 * unit,
        frame=foot,
        scale=(1.0, 0.32, 1.0),
    )


def _head(solids: SolidList, character: Character, figure: Figure) -> None:
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
    brow_colour = _tint(outfit.hair, 0.75 if sum(outfit.hair) > 0.9 else 1.0)
    for sign in (-1.0, 1.0):
        ellipsoid(_tint(skin, 0.97), at(sign * face.EAR[0], face.EAR[1], face.EAR[2]), (0.09, 0.2, 0.13))
        x, y = sign * face.EYE_X, face.EYE_Y
        z = face.front_at(x, y)
        ellipsoid((0.97, 0.97, 0.96), at(x, y, z - 0.045), (0.165, 0.115, 0.09), 0.2)
        ellipsoid(outfit.iris, at(x, y, z - 0.005), (0.092, 0.1, 0.06), 0.3)
        ellipsoid((0.05, 0.05, 0.06), at(x, y, z + 0.028), (0.05, 0.054, 0.035), 0.6)
        lid = 0.09
        left, right = at(x - 0.14, y + lid, z - 0.01), at(x + 0.14, y + lid, z - 0.01)
        solids.add(HEAD, _tint(brow_colour, 0.6), left, right, 0.022 * unit)
        inner, top, outer = face.BROW[0], face.BROW[2], face.BROW[4]
        for start, end, r0, r1 in ((inner, top, 0.038, 0.04), (top, outer, 0.04, 0.025)):
            p, q = (
                at(sign * v[0], v[1], face.front_at(float(v[0]), float(v[1])) - 0.005) for v in (start, end)
            )
            solids.add(HEAD, brow_colour, p, q, r0 * unit, r1 * unit)
    bridge = at(0, 0.04, face.front_at(0, 0.04) - 0.04)
    tip = at(0, face.NOSE_TIP_Y, face.front_at(0, face.NOSE_TIP_Y) + 0.09)
    solids.add(HEAD, _tint(skin, 0.985), bridge, tip, 0.055 * unit, 0.1 * unit)
    for sign in (-1.0, 1.0):
        solids.add(
            HEAD,
            _tint(skin, 0.93),
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
        solids.add(HEAD, _tint(lips, 1.12), corner, at(0, y - 0.045, 0.0) + down, 0.022 * unit, 0.046 * unit)


def _hair(solids: SolidList, character: Character, figure: Figure) -> None:
    body, outfit = character.body, character.outfit
    unit = body.head * body.height
    frame, style = figure.head_frame, outfit.hair_style
    down = np.array([0.0, -1.0, 0.0])

    def at(x: float, y: float, z: float) -> Array:
        return figure.head + unit * (frame @ np.array([x, y, z]))

    def add(a: Array, b: Array, ra: float, rb: float, scale: tuple[float, float, float] = _ROUND) -> None:
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
