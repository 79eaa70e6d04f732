"""Write docs/settings.md from the schema of the inference YAML.

python docs/write_settings.py
"""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic.config import CaseConfig, Config, InferenceConfig

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Written by `python docs/write_settings.py` from the schema; do not edit. Every setting can be given in a YAML,
as `key=value` on the command line, and as an argument of `mimic.generate`. "of the weights": where nothing is
given, the value stored with the model's weights counts, else the one of the released code.
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
    ]
    return "\n".join(parts)


def entry(owner: type[Config], name: str, field: FieldInfo) -> str:
    """One setting: name, what it takes, its default, its meaning."""
    others = [other for other, own in getattr(owner, "OTHER_NAMES", {}).items() if own == name]
    also = f" (also `{others[0]}`)" if others else ""
    if field.is_required():
        default = "required"
    elif field.get_default(call_default_factory=True) is None:
        default = "default: of the weights" if "released:" in (field.description or "") else "optional"
    else:
        default = f"default: `{shown(field.get_default(call_default_factory=True))}`"
    return f"### {name}\n\n{takes(field)}{also}, {default}\n\n{field.description}\n"


def takes(field: FieldInfo) -> str:
    """What values a setting takes, in words."""
    kinds = [
        kind for kind in typing.get_args(field.annotation) or (field.annotation,) if kind is not type(None)
    ]
    if typing.get_origin(field.annotation) is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in kinds)
    words = " or ".join(dict.fromkeys(_word(kind) for kind in kinds))
    bounds = [
        f"{words_} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for attribute, words_ in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to"))
        if getattr(limit, attribute, None) is not None
    ]
    return " ".join([words, *bounds])


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in typing.get_args(kind))
    plain = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path"}
    named = {tuple: "list", list: "list", dict: "keys with values"}
    return plain.get(kind) or named.get(typing.get_origin(kind) or kind) or "keys with values"


def shown(value: object) -> str:
    """A default as a YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
