"""Amounts of variation of dancers and scenes, in one frozen class."""

from __future__ import annotations

from dataclasses import dataclass

HAIR_STYLES = ("short", "bob", "long", "bun", "ponytail", "afro", "buzz")
SLEEVES = ("short", "long", "none")
BOTTOMS = ("trousers", "shorts", "skirt")
BACKGROUNDS = ("plain", "gradient", "striped", "textured")


@dataclass(frozen=True)
class World:
    """Amounts of variation of characters, cameras, backgrounds and motion. Lengths are in body heights.

    `World.plain()` (the defaults) is simple enough for a small model to learn: one body scale, the whole body
    in the frame, seen from the front. `World.portraits()` adds half bodies, busts and close-ups,
    `World.rich()` has all variation.
    """

    height_variation: float = 0.06
    """Maximum deviation of the body height from 1."""
    proportion_variation: float = 0.05
    """Relative variation of the lengths of limbs and of the widths of the body."""
    hand_scale: float = 1.18
    """Factor by which hands are larger than natural, so that fingers are visible in small pictures."""
    hair_styles: tuple[str, ...] = HAIR_STYLES
    sleeves: tuple[str, ...] = SLEEVES
    bottoms: tuple[str, ...] = BOTTOMS
    stripe_probability: float = 0.3
    """Probability that a shirt is striped."""
    clothes_saturation: tuple[float, float] = (0.5, 0.82)
    clothes_value: tuple[float, float] = (0.45, 0.92)

    backgrounds: tuple[str, ...] = BACKGROUNDS
    background_weights: tuple[float, ...] = (0.45, 0.4, 0.15, 0.0)
    """Probability of each kind of background."""
    background_contrast: float = 0.12
    """Difference of value (as in HSV) between the colours of a background."""
    background_saturation: tuple[float, float] = (0.05, 0.3)
    background_value: tuple[float, float] = (0.45, 0.9)
    light_variation: float = 0.25
    """Variation of the light's direction around its default above, left of and behind the viewer."""

    zoom: tuple[float, float] = (1.0, 1.0)
    """Range of the camera's zoom; at 1, the whole body with spread arms fits the picture."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Maximum sideways and upward displacement of the figure."""
    half_body_probability: float = 0.0
    """Probability that the camera shows only the upper half of the body."""
    bust_probability: float = 0.0
    """Probability that the camera shows head, shoulders and chest."""
    close_up_probability: float = 0.0
    """Probability that the camera shows the head and little else."""
    camera_distance: tuple[float, float] = (7.0, 7.0)
    camera_pitch_deg: tuple[float, float] = (3.0, 3.0)
    """Range of the camera's pitch in degrees; positive looks down."""

    turn_deg: float = 50.0
    """Maximum rotation of the body away from the camera, in degrees."""
    full_turn_probability: float = 0.0
    """Probability that a motion has full turns."""
    beat_s: tuple[float, float] = (0.45, 0.8)
    """Range of the length of a beat in seconds; a gesture takes one or two beats."""
    travel: float = 0.05
    """Maximum distance of steps from the centre of the stage."""
    high_step_probability: float = 0.2
    """Probability that a step lifts the knee high."""
    reach_side: float = 0.485
    """Maximum sideways distance of fingertips from the centre of the body."""
    reach_up: float = 1.02
    """Maximum height of fingertips."""

    @classmethod
    def plain(cls) -> World:
        """Return little variation: one body scale, whole body from the front, plain backgrounds and light."""
        return cls()

    @classmethod
    def portraits(cls) -> World:
        """Return `plain` with whole and half bodies, busts and close-ups, as users take pictures."""
        return cls(
            zoom=(0.95, 1.1),
            shift=(0.03, 0.015),
            half_body_probability=0.25,
            bust_probability=0.2,
            close_up_probability=0.1,
            camera_distance=(5.0, 8.0),
            camera_pitch_deg=(-2.0, 6.0),
        )

    @classmethod
    def rich(cls) -> World:
        """Return all variation: scale, position, full turns, half bodies, backgrounds, camera pitch,
        light."""
        return cls(
            height_variation=0.1,
            proportion_variation=0.09,
            stripe_probability=0.4,
            clothes_saturation=(0.0, 1.0),
            clothes_value=(0.12, 1.0),
            background_weights=(0.2, 0.3, 0.25, 0.25),
            background_contrast=0.35,
            background_saturation=(0.0, 0.7),
            background_value=(0.15, 0.95),
            light_variation=0.7,
            zoom=(0.7, 1.15),
            shift=(0.12, 0.05),
            half_body_probability=0.3,
            camera_distance=(3.0, 8.0),
            camera_pitch_deg=(-8.0, 16.0),
            turn_deg=110.0,
            full_turn_probability=0.25,
            beat_s=(0.35, 0.9),
            travel=0.12,
            high_step_probability=0.35,
            reach_side=0.62,
            reach_up=1.3,
        )

    @classmethod
    def named(cls, name: object) -> World:
        """Return the world of a name of `WORLDS`.

        Raises:
            ValueError: there is no such world.
        """
        if name not in WORLDS:
            raise ValueError(f"there is no world {name!r}; use {', '.join(WORLDS[:-1])} or {WORLDS[-1]}")
        made: World = getattr(cls, str(name))()
        return made


WORLDS = ("plain", "portraits", "rich")
"""Names of the worlds that settings and commands take."""
