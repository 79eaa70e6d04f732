"""Which keys does a settings class accept, and which may be meant by another one?"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Union

from pydantic import BaseModel


def owner_of(schema: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the settings class that a location inside the schema belongs to."""
    current: type[BaseModel] | None = schema
    for part in location:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        current = settings_class(current.model_fields[part].annotation)
    return current


def settings_class(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (Union, types.UnionType, tuple, list):
        found = (settings_class(argument) for argument in typing.get_args(annotation))
        return next((settings for settings in found if settings is not None), None)
    return None


def known_keys(schema: type[BaseModel]) -> list[str]:
    """Return all keys that a settings class accepts, including alternative names."""
    others = (getattr(schema, name, ()) for name in ("OTHER_NAMES", "FOR_ALL_CASES"))
    return [*schema.model_fields, *(key for keys in others for key in keys)]


def near(location: Sequence[int | str], owner: type[BaseModel]) -> str | None:
    """Return the setting that a key, which is none, may mean, as it is to be typed; None if none is similar.

    Args:
        location: of the key inside the whole schema.
        owner: the class at that place.
    """
    key, is_listed = str(location[-1]), any(isinstance(part, int) for part in location)
    place = (
        [] if is_listed else [str(part) for part in location[:-1]]
    )  # the key of a list's entry stands alone
    beneath = (
        [name, key]
        for name, field in owner.model_fields.items()
        if (inner := settings_class(field.annotation)) is not None and key in known_keys(inner)
    )
    found = next(beneath, None) or difflib.get_close_matches(key.lower(), known_keys(owner), n=1, cutoff=0.6)
    return ".".join([*place, *found]) if found else None
