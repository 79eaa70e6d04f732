"""Characters and scenes drawn at random: body, clothes, hair, background, camera and light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.world import World

Colour = tuple[float, float, float]  # RGB in [0, 1]


@dataclass(frozen=True)
class Body:
    """Lengths and radii of a body, in body heights of a person of height 1; `height` scales all of them."""

    height: float = 1.0
    girth: float = 1.0
    head: float = 0.0745
    """Half the height of the head."""
    ankle_height: float = 0.042
    shin: float = 0.236
    thigh: float = 0.242
    hip_width: float = 0.052
    """Half the distance between the hip joints."""
    pelvis_to_waist: float = 0.085
    waist_to_chest: float = 0.11
    chest_to_neck: float = 0.106
    neck: float = 0.036
    shoulder_width: float = 0.104
    """Half the distance between the shoulder joints."""
    upper_arm: float = 0.16
    forearm: float = 0.138
    hand: float = 0.102
    foot: float = 0.142
    chest: float = 0.084
    """Half the width of the trunk at the chest; `waist` and `hips` likewise."""
    waist: float = 0.07
    hips: float = 0.085

    @property
    def leg(self) -> float:
        return self.shin + self.thigh


@dataclass(frozen=True)
class Outfit:
    skin: Colour
    lips: Colour
    iris: Colour
    hair: Colour
    hair_style: str
    top: Colour
    top_second: Colour
    sleeves: str
    num_stripes: int
    """Number of stripes on the shirt; 0 for a plain shirt."""
    bottom: Colour
    bottoms: str
    shoes: Colour
    sole: Colour


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at a point of the stage; lengths are in body heights."""

    zoom: float = 1.0
    look_at: tuple[float, float] = (0.0, 0.53)
    """Sideways and upward position on the stage shown at the centre of the picture."""
    distance: float = 7.0
    pitch_deg: float = 3.0


@dataclass(frozen=True)
class Light:
    direction: tuple[float, float, float] = (-0.45, -0.6, -0.66)
    """Unit vector from the figure to the light; screen axes: x right, y down, z away from the viewer."""
    ambient: float = 0.55


@dataclass(frozen=True)
class Background:
    kind: str
    first: Colour
    second: Colour
    angle: float
    """Direction of the gradient or of the stripes in radians."""
    period: float
    """Width of a pair of stripes in picture heights."""
    seed: int
    """Seed of the texture."""


@dataclass(frozen=True)
class Character:
    """Everything about a clip except its motion."""

    body: Body
    outfit: Outfit
    background: Background
    camera: Camera
    light: Light


_SKINS = np.array(
    [
        [250, 222, 200], [241, 203, 172], [228, 182, 144], [207, 155, 113], [176, 122, 82], [140, 92, 60],
        [108, 70, 46], [84, 54, 38],
    ]
) / 255.0  # fmt: skip
_HAIRS = np.array(
    [
        [28, 24, 24], [54, 36, 26], [92, 58, 34], [132, 88, 50], [196, 150, 84], [226, 196, 130],
        [160, 66, 30], [120, 118, 122], [190, 60, 90], [60, 90, 160],
    ]
) / 255.0  # fmt: skip
_HAIR_WEIGHTS = [0.18, 0.17, 0.15, 0.12, 0.12, 0.09, 0.09, 0.04, 0.02, 0.02]
_IRISES = np.array([[60, 40, 28], [84, 58, 34], [52, 96, 136], [62, 110, 78], [40, 40, 44]]) / 255.0


def sample_character(rng: np.random.Generator, world: World) -> Character:
    """Draw a character with background, camera and light at random."""
    body = _sample_body(rng, world)
    background = _sample_background(rng, world)
    outfit = _sample_outfit(rng, world, background)
    return Character(body, outfit, background, _sample_camera(rng, world), _sample_light(rng, world))


def _sample_body(rng: np.random.Generator, world: World) -> Body:
    v = world.proportion_variation
    standard = Body()

    def vary(value: float, scale: float = 1.0) -> float:
        return float(value * (1 + scale * v * rng.uniform(-1, 1)))

    shoulder_to_hip = rng.uniform(-1, 1) * v * 1.4
    girth = 1 + 1.6 * v * rng.uniform(-1, 1)
    leg = 1 + 0.6 * v * rng.uniform(-1, 1)
    arm = 1 + 0.6 * v * rng.uniform(-1, 1)
    return Body(
        height=float(1 + world.height_variation * rng.uniform(-1, 1)),
        girth=float(girth),
        head=vary(standard.head, 0.7),
        shin=float(standard.shin * leg),
        thigh=float(standard.thigh * leg),
        hip_width=float(standard.hip_width * (1 - shoulder_to_hip)),
        neck=vary(standard.neck),
        shoulder_width=float(standard.shoulder_width * (1 + shoulder_to_hip)),
        upper_arm=float(standard.upper_arm * arm),
        forearm=float(standard.forearm * arm),
        hand=vary(standard.hand, 0.5) * world.hand_scale,
        foot=vary(standard.foot, 0.5),
        chest=float(standard.chest * (1 + 0.7 * shoulder_to_hip) * girth),
        waist=float(standard.waist * girth),
        hips=float(standard.hips * (1 - 0.7 * shoulder_to_hip) * girth),
    )


def _colour(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def _distance(first: Colour, second: Colour) -> float:
    """Compute a rough perceptual difference of two colours, with the largest weight for green."""
    weights = np.array([0.9, 1.2, 0.7])
    return float(np.abs((np.array(first) - np.array(second)) * weights).sum())


def _distinct_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    others: list[Colour],
) -> Colour:
    """Draw a few colours from the given ranges and return the one farthest from the others."""
    best, best_distance = (0.5, 0.5, 0.5), -1.0
    for _ in range(8):
        colour = _colour(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
        distance = min(_distance(colour, other) for other in others)
        if distance > best_distance:
            best, best_distance = colour, distance
        if distance > 0.7:
            break
    return best


def _triple(colour: NDArray[np.float64]) -> Colour:
    r, g, b = (float(x) for x in np.clip(colour, 0, 1))
    return r, g, b


def _sample_outfit(rng: np.random.Generator, world: World, background: Background) -> Outfit:
    place = rng.uniform(0, len(_SKINS) - 1.001)
    low = int(place)
    skin = _triple(_SKINS[low] + (place - low) * (_SKINS[low + 1] - _SKINS[low]))
    hair = _sample_hair(rng, skin)
    lips = _triple(np.array(skin) * [0.82, 0.5, 0.52])
    range_ = world.clothes_saturation, world.clothes_value
    top = _distinct_colour(rng, *range_, [skin, background.first])
    bottom = _distinct_colour(rng, *range_, [skin, top, background.first])
    if rng.uniform() < 0.3:  # jeans, black, grey, beige
        classic = (
            np.array([[44, 62, 110], [40, 40, 46], [120, 122, 128], [190, 168, 130]])[rng.integers(4)] / 255
        )
        if _distance(_triple(classic), background.first) > 0.4 and _distance(_triple(classic), top) > 0.4:
            bottom = _triple(classic)
    second = (0.96, 0.95, 0.92) if rng.uniform() < 0.4 else _distinct_colour(rng, *range_, [top])
    shoes = _distinct_colour(rng, (0.0, 0.9), (0.2, 0.95), [bottom, background.first])
    return Outfit(
        skin=skin,
        lips=lips,
        iris=_triple(_IRISES[rng.integers(len(_IRISES))]),
        hair=hair,
        hair_style=str(rng.choice(world.hair_styles)),
        top=top,
        top_second=second,
        sleeves=str(rng.choice(world.sleeves)),
        num_stripes=int(rng.integers(2, 5)) if rng.uniform() < world.stripe_probability else 0,
        bottom=bottom,
        bottoms=str(rng.choice(world.bottoms)),
        shoes=shoes,
        sole=(0.93, 0.92, 0.9) if _distance(shoes, (0.93, 0.92, 0.9)) > 0.6 else (0.25, 0.25, 0.27),
    )


def _sample_hair(rng: np.random.Generator, skin: Colour) -> Colour:
    """Draw a hair colour that contrasts with the skin."""
    hair = _triple(_HAIRS[0])
    for _ in range(6):
        hair = _triple(_HAIRS[rng.choice(len(_HAIRS), p=_HAIR_WEIGHTS)] * rng.uniform(0.9, 1.1))
        if _distance(hair, skin) > 0.45:
            break
    return hair


def _sample_background(rng: np.random.Generator, world: World) -> Background:
    weights = np.array(world.background_weights, float)
    hue = rng.uniform()
    saturation = rng.uniform(*world.background_saturation)
    value = rng.uniform(*world.background_value)
    change = world.background_contrast * rng.uniform(0.5, 1.0) * rng.choice([-1, 1])
    other = float(np.clip(value + change, 0.1, 0.97))
    return Background(
        kind=str(rng.choice(world.backgrounds, p=weights / weights.sum())),
        first=_colour(hue, saturation, value),
        second=_colour(hue + world.background_contrast * rng.uniform(-0.3, 0.3), saturation, other),
        angle=float(rng.uniform(0, np.pi)),
        period=float(rng.uniform(0.12, 0.35)),
        seed=int(rng.integers(2**31)),
    )


def _sample_camera(rng: np.random.Generator, world: World) -> Camera:
    zoom = float(rng.uniform(*world.zoom))
    look_up = 0.53
    shot = rng.uniform()
    for probability, zooms, heights in (
        (world.half_body_probability, (1.5, 1.9), (0.72, 0.78)),
        (world.bust_probability, (2.1, 2.8), (0.8, 0.85)),
        (world.close_up_probability, (3.0, 3.8), (0.88, 0.92)),
    ):
        if 0 <= shot < probability:
            zoom *= float(rng.uniform(*zooms))
            look_up = float(rng.uniform(*heights))
        shot -= probability
    return Camera(
        zoom=zoom,
        look_at=(
            float(world.shift[0] * rng.uniform(-1, 1)),
            float(look_up + world.shift[1] * rng.uniform(-1, 1)),
        ),
        distance=float(rng.uniform(*world.camera_distance)),
        pitch_deg=float(rng.uniform(*world.camera_pitch_deg)),
    )


def _sample_light(rng: np.random.Generator, world: World) -> Light:
    direction = np.array(Light.direction) + world.light_variation * rng.uniform(-1, 1, 3)
    direction[2] = min(direction[2], -0.3)
    x, y, z = (float(v) for v in direction / np.linalg.norm(direction))
    return Light((x, y, z), ambient=float(0.55 + 0.3 * world.light_variation * rng.uniform(-1, 1)))
