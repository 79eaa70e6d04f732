"""Write docs/settings.md from the settings of runs, trainings and comparisons.

python docs/write_settings.py
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic.compare.settings import CompareConfig, VariantSettings
from mimic.config import CaseConfig, Config, InferenceConfig
from mimic.families.registry import FAMILIES, load_task, trained_families
from mimic.training.settings import TrainSettings

OF_THE_WEIGHTS = {
    *("preset", "schedule", "reuse_interval", "guidance_scale", "decode_overlap"),
    *(name for family in FAMILIES.values() for name in family.pipeline_class().released),
}
"""Settings whose default is stored with the weights, else that of the released code."""
PAGE = Path(__file__).with_name("settings.md")
HEAD = """<!-- Written by `python docs/write_settings.py` from the settings' classes; do not edit. -->
# Settings

Every setting can be given in a YAML and as `key=value` on the command line; those of a run and of a case also
as an argument of `mimic.generate`. "of the weights": where nothing is given, the value stored with the
model's weights counts, else the one of the released code. Settings [of a run](#of-a-run),
[of a case](#of-a-case), [of a training](#of-a-training), [of its objective](#of-a-trainings-objective),
[of a comparison](#of-a-comparison).
"""
TRAINING = """## Of a training

Keys of a YAML for `mimic train` that has `family`. `data.path` is `path` beneath `data:`, and `data.path=…`
on the command line. `mimic configs --keys mini_vae` lists those of the bundled models' VAE.
"""
OBJECTIVE = """## Of a training's objective

Keys beneath `objective:`, by family.
"""
COMPARISON = """## Of a comparison

Keys of a YAML for `mimic compare`. `variants` is a list; each of its entries has the keys `variants[].…`.
"""


def page() -> str:
    """The page."""
    of_cases = CaseConfig.model_fields
    parts = [
        HEAD,
        "## Of a run\n",
        *(
            entry(InferenceConfig, name, field)
            for name, field in InferenceConfig.model_fields.items()
            if name not in of_cases and name != "test_case"
        ),
        "## Of a case\n\nAt the top level of a YAML they are defaults of all cases.\n",
        *(entry(CaseConfig, name, field) for name, field in of_cases.items()),
        TRAINING,
        *entries(TrainSettings),
        OBJECTIVE,
        *(
            text
            for family in trained_families()
            for text in (f"### For {family}\n", *entries(load_task(family).Settings, level=4))
        ),
        COMPARISON,
        *entries(CompareConfig),
    ]
    return "\n".join(parts)


def entries(owner: type[Config], prefix: str = "", *, level: int = 3) -> Iterator[str]:
    """The settings of a class; those of a setting with keys of its own follow it."""
    for name, field in owner.model_fields.items():
        inner, is_listed = settings_in(field)
        yield entry(owner, name, field, prefix=prefix, level=level)
        if inner is not None:
            yield from entries(inner, f"{prefix}{name}{'[]' if is_listed else ''}.", level=level)


def settings_in(field: FieldInfo) -> tuple[type[Config] | None, bool]:
    """The class of a setting's own keys, if it has any, and whether there is a list of them."""
    for kind in (field.annotation, *typing.get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Config):
            return kind, typing.get_origin(field.annotation) is tuple
    return None, False


def entry(owner: type[Config], name: str, field: FieldInfo, *, prefix: str = "", level: int = 3) -> str:
    """One setting: name, what it takes, its default, its meaning."""
    others = [other for other, own in getattr(owner, "OTHER_NAMES", {}).items() if own == name]
    also = f" (also `{others[0]}`)" if others else ""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        default = ", required"
    elif value is None:
        default = (
            ", default: of the weights" if owner is CaseConfig and name in OF_THE_WEIGHTS else ", optional"
        )
    else:
        default = "" if isinstance(value, Config) else f", default: `{shown(value)}`"
    return f"{'#' * level} {prefix}{name}\n\n{takes(field)}{also}{default}\n\n{field.description}\n"


def takes(field: FieldInfo) -> str:
    """What values a setting takes, in words."""
    is_union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(field.annotation) if is_union else (field.annotation,)
    words = " or ".join(dict.fromkeys(_word(kind) for kind in kinds if kind is not type(None)))
    bounds = [
        f"{words_} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for attribute, words_ in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to"))
        if getattr(limit, attribute, None) is not None
    ]
    return " ".join([words, *bounds])


def _word(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        first = arguments[0]
        if typing.get_origin(first) is typing.Annotated:
            first = typing.get_args(first)[0]
        return f"list of {_LISTED.get(first) or 'these: ' + _word(first).removeprefix('one of ')}"
    return _PLAIN.get(kind) or ("list" if origin is list else "keys with values")


_PLAIN = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path"}
_LISTED = {int: "whole numbers", float: "numbers", str: "texts", VariantSettings: "keys with values",
           tuple[int, int]: "pairs of whole numbers"}  # fmt: skip


def shown(value: object) -> str:
    """A default as a YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return json.dumps(value)
    return json.dumps(dict(value)) if isinstance(value, Mapping) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
