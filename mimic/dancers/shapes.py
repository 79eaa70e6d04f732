"""Build a dancer from coloured swept spheres, from a posed figure and its outfit."""

from __future__ import annotations

import numpy as np

from mimic.dancers.character import Character
from mimic.dancers.heads import add_hair, add_head
from mimic.dancers.skeleton import Figure
from mimic.dancers.solids import (
    HEAD,
    LEFT_FOOT,
    LEFT_FOREARM,
    LEFT_HAND,
    LEFT_SHIN,
    LEFT_THIGH,
    LEFT_UPPER_ARM,
    RIGHT_FOOT,
    RIGHT_FOREARM,
    RIGHT_HAND,
    RIGHT_SHIN,
    RIGHT_THIGH,
    RIGHT_UPPER_ARM,
    TORSO,
    Array,
    Rings,
    SolidList,
    place,
    tint,
)


def dress(character: Character, figure: Figure) -> SolidList:
    """Build all solids of a figure for its ``F`` frames."""
    solids = SolidList(len(figure.pelvis))
    _trunk(solids, character, figure)
    for side in (0, 1):
        _arm(solids, character, figure, side)
        _hand(solids, character, figure, side)
        _leg(solids, character, figure, side)
    add_head(solids, character, figure)
    add_hair(solids, character, figure)
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

    hem = place(figure.pelvis, pelvis_frame, (0, 0.026, 0.001), unit)
    belly = place(figure.waist, pelvis_frame, (0, 0.006, 0.003), unit)
    ribs = place(figure.chest, chest_frame, (0, 0.012, 0.004), unit)
    top = place(figure.neck, chest_frame, (0, -0.052, -0.001), unit)
    cloth(hem, belly, body.hips * 1.0, body.waist * 1.04, 0.7, pelvis_frame, low_rings)
    cloth(belly, ribs, body.waist * 1.04, body.chest * 1.02, 0.68, chest_frame, high_rings)
    cloth(ribs, top, body.chest * 1.02, body.chest * 1.06, 0.62, chest_frame, high_rings)
    throat = place(figure.neck, chest_frame, (0, 0.0, -0.01), unit)
    breast = place(figure.chest, chest_frame, (0, 0.056, 0.0), unit)
    for side in (0, 1):  # shoulders slope from the neck to the arms and join the chest smoothly
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
    collar = place(figure.neck, chest_frame, (0, 0.006, 0.006), unit)
    nape = figure.head + unit * body.head * (figure.head_frame @ np.array([0, -0.4, -0.1]))
    solids.add(HEAD, tint(outfit.skin, 0.94), collar, nape, 0.0325 * unit, 0.029 * unit)
    low = place(figure.pelvis, pelvis_frame, (0, -0.012, -0.002), unit)
    belt = place(figure.pelvis, pelvis_frame, (0, 0.028, 0.0), unit)
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
    """Add a flared cone that hangs from the pelvis and covers and follows the thighs."""
    body, outfit = character.body, character.outfit
    unit, girth = body.height, body.height * body.girth
    thighs = 0.5 * (figure.knees[0] + figure.knees[1]) - figure.pelvis
    down = place(figure.pelvis, figure.pelvis_frame, (0, -0.12, 0), unit) - figure.pelvis
    hem = figure.pelvis + 0.45 * down + 0.3 * thighs
    top = place(figure.pelvis, figure.pelvis_frame, (0, 0.02, 0), unit)
    middle = place(figure.pelvis, figure.pelvis_frame, (0, -0.02, 0), unit)
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
            shade = 0.97 if finger in (2, 4) else 1.0
            solids.add(
                part,
                tint(skin, shade),
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
