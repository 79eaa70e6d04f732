"""The settings that the page offers, and how its values become settings of a case."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from mimic.config import CaseSettings

MODELS_OWN = "of the model"
AUTOMATIC = "automatic"
PLACING = ("robust", "limbs")
"""Fits that place the person."""
LIMBS = ("head", "trunk", "upper_arm", "forearm", "thigh", "shin")


def _choices(name: str) -> list[str]:
    """The values that the schema allows."""
    annotation = CaseSettings.model_fields[name].annotation
    kinds = [annotation, *typing.get_args(annotation)]
    found = [typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal]
    return [str(value) for value in found[0]]


@dataclass(frozen=True)
class Field:
    """A control of the page, and where its value goes in a case's settings, as in ``adjust.scale``."""

    key: str
    component: Callable[[], gr.components.Component]
    neutral: Any
    """With this value the setting is left out."""
    group: Literal["fit", "limbs", "generate"] = "fit"
    """Where it stands on the page; fields are in the order of their groups."""

    @property
    def name(self) -> str:
        """Its name for programs, as in ``adjust_scale``."""
        return self.key.replace(".", "_")


def _slider(label: str, low: float, high: float, value: float, key: str) -> Callable[[], gr.Slider]:
    return lambda: gr.Slider(low, high, value=value, step=0.01, label=label, elem_id=key.replace(".", "-"))


def _fields() -> list[Field]:
    adjust = [
        ("adjust.scale", "Size", 0.5, 2.0, 1.0),
        ("adjust.x", "To the right, of the width", -0.5, 0.5, 0.0),
        ("adjust.y", "Down, of the height", -0.5, 0.5, 0.0),
        ("adjust.rotate", "Rotate, degrees", -45.0, 45.0, 0.0),
    ]
    limbs = [(f"adjust.limbs.{name}", f"Length: {name.replace('_', ' ')}", 0.5, 1.5, 1.0) for name in LIMBS]
    return [
        Field(
            "align",
            lambda: gr.Dropdown(_choices("align"), value="limbs", label="Fit", elem_id="align"),
            None,
        ),
        Field(
            "anchor",
            lambda: gr.Dropdown(
                [AUTOMATIC, *_choices("anchor")],
                value=AUTOMATIC,
                label="Place",
                elem_id="anchor",
                info=f"with the fits {' and '.join(PLACING)}",
            ),
            AUTOMATIC,
        ),
        *(
            Field(key, _slider(label, low, high, value, key), value)
            for key, label, low, high, value in adjust
        ),
        *(
            Field(key, _slider(label, low, high, value, key), value, "limbs")
            for key, label, low, high, value in limbs
        ),
        Field(
            "preset",
            lambda: gr.Dropdown(
                [MODELS_OWN, *_choices("preset")], value=MODELS_OWN, label="Preset", elem_id="preset"
            ),
            MODELS_OWN,
            group="generate",
        ),
        Field(
            "num_inference_steps",
            lambda: gr.Number(label="Steps (0: of the preset)", value=0, precision=0, elem_id="steps"),
            0,
            group="generate",
        ),
        Field(
            "seed", lambda: gr.Number(label="Seed", value=42, precision=0, elem_id="seed"), None, "generate"
        ),
        Field(
            "background",
            lambda: gr.Dropdown(
                _choices("background"), value="generated", label="Background", elem_id="background"
            ),
            "generated",
            group="generate",
        ),
    ]


FIELDS = _fields()


def settings_of(start: float | None, end: float | None, person: str, *values: Any) -> dict[str, Any]:
    """Settings of a case from the page's values: trim, person, then one value for each of `FIELDS`.

    What is at its neutral value is left out, so that the YAML of a result has what was chosen; so is the
    place with fits that do not place the person.
    """
    settings: dict[str, Any] = {}
    if start:
        settings["start"] = float(start)
    if end:
        settings["end"] = float(end)
    person = (person or "largest").strip()
    if person != "largest":
        settings["person"] = int(person) if person.isdecimal() else person
    chosen = {field.key: value for field, value in zip(FIELDS, values, strict=True) if value != field.neutral}
    settings |= {
        key: value for key, value in chosen.items() if not key.startswith("adjust.") and value is not None
    }
    if settings.get("align") not in PLACING:
        settings.pop("anchor", None)
    adjust = _adjust(
        {key.removeprefix("adjust."): value for key, value in chosen.items() if "adjust." in key}
    )
    return settings | ({"adjust": adjust} if adjust else {})


def _adjust(chosen: Mapping[str, float]) -> dict[str, Any]:
    limbs = {key.removeprefix("limbs."): value for key, value in chosen.items() if key.startswith("limbs.")}
    adjust: dict[str, Any] = {key: chosen[key] for key in ("scale", "rotate") if key in chosen}
    if "x" in chosen or "y" in chosen:
        adjust["offset"] = [chosen.get("x", 0.0), chosen.get("y", 0.0)]
    return adjust | ({"limbs": limbs} if limbs else {})
