"""Read a YAML file and ``key=value`` overrides into a frozen, typed object; each fault gets one sentence."""

from __future__ import annotations

import difflib
import os
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from mimic.config.keys import known_keys, near, owner_of
from mimic.config.words import in_plain_words
from mimic.files import PACKAGE, local_path
from pose.text import one_line, shown
from pose.video.source import nearest_file, why_no_file


class ConfigError(ValueError):
    """Invalid settings: an unknown key, a wrong type, a contradiction. The message names key and file."""


class Config(BaseModel):
    """Base of all settings classes: frozen, without unknown keys, fields documented by their docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


AnyConfig = TypeVar("AnyConfig", bound=Config)

# PyYAML's own errors, and what its constructors raise for tags such as !!int x, !!bool x or !!timestamp 99.
_NO_YAML = (yaml.YAMLError, OmegaConfBaseException, ValueError, LookupError, AttributeError, TypeError)
_ESCAPED_PATH = re.compile(r"[A-Za-z]:[^\n]*[\x00-\x1f\x85\xa0]")
_LONGEST = 200  # characters of a value in a message
_LONGEST_COMPLAINT = 1000
_MOST = 20  # faults, or unknown keys, that a message lists
_MOST_KEYS = 30  # settings that a message lists, where a command lists them as well
_DEEPEST = 20  # parts of a dotted key
_ESCAPED = re.compile(r"[\x00-\x1f\x85]")
_PATH_KEY = re.compile(r"(path|dir|folder|videos|cache|model|checkpoint|weights|vae|start_from)$")
_BACKSLASHES = (
    "In double quotes YAML reads \\ and the letter behind it as one character; write paths with / or in "
    "single quotes: 'D:\\new'"
)


def load_config(
    schema: type[AnyConfig], path: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> AnyConfig:
    """Read a YAML file as settings of class `schema`.

    Args:
        schema: the settings class.
        path: the YAML file.
        overrides: changes, each ``key=value`` or ``list.0.key=value``.

    Raises:
        ConfigError: the file does not exist or is not valid YAML, or a key or value is invalid.
    """
    return build(schema, read_yaml(path, overrides, schema), source=path)


def read_yaml(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), schema: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Read a YAML file, apply overrides and resolve interpolations (``${…}``).

    Args:
        path: the YAML file.
        overrides: changes, each ``key=value`` or ``list.0.key=value``.
        schema: determines which settings are text, see `split_override`.

    Raises:
        ConfigError: the file does not exist or is not YAML with keys, or an override cannot be applied.
    """
    path = config_path(path)
    if not path.is_file():
        if path.exists():
            raise ConfigError(f"{path} is {why_no_file(path) or 'no file'}; expected a YAML file")
        hint = nearest_file(path, "*.yaml", cutoff=0.5) or _shipped_of_that_name(path)
        raise ConfigError(f"there is no config {path}{hint}")
    try:
        config = OmegaConf.load(path)
    except RecursionError as error:
        raise ConfigError(
            f"{path} is not valid YAML for settings: its values are nested too deeply"
        ) from error
    except (*_NO_YAML, OSError) as error:
        hint = f". {_BACKSLASHES}" if "escape" in str(error) else ""
        is_told = isinstance(error, (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError))
        reason = one_line(error) if is_told else "a value is not of the type that its tag (!!…) names"
        raise ConfigError(f"{path} is not valid YAML: {reason}{hint}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path} holds no keys; expected `key: value` lines")
    for override in overrides:
        _change(config, override, schema)
    try:
        content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
    assert isinstance(content, dict)
    for key, value in _texts(content):
        if _ESCAPED_PATH.match(value) or (_PATH_KEY.search(key) and _ESCAPED.search(value)):
            raise ConfigError(
                f"{path}: {one_line(key)} is {shown(value, _LONGEST)}, with control characters in a path. "
                f"{_BACKSLASHES}"
            )
    return typing.cast(dict[str, Any], content)


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in nested dicts and lists, each with its dotted key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _texts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _texts(value, f"{key}.{i}")


def build(
    schema: type[AnyConfig], content: Mapping[str, Any], source: str | os.PathLike[str] = "config"
) -> AnyConfig:
    """Validate ``content`` and return it as settings of class ``schema``.

    Args:
        schema: the settings class.
        content: values by key.
        source: prefix of error messages, such as the file's path.

    Raises:
        ConfigError: a key or value is invalid; the message has one line for each.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        complaints = _told_once(_complaints(schema, [dict(problem) for problem in error.errors()]))
        more = [f"and {len(complaints) - _MOST} more faults"] if len(complaints) > _MOST else []
        lines = [one_line(complaint, _LONGEST_COMPLAINT) for complaint in complaints[:_MOST]] + more
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def shipped_config(name: str) -> Path:
    """Return the path of a YAML shipped with mimic, such as ``demo`` or ``train/debug.yaml``.

    Raises:
        ConfigError: there is none of that name.
    """
    configs = shipped_configs()
    key = name.replace("\\", "/").removesuffix(".yaml")
    if key not in configs:
        near = difflib.get_close_matches(key, configs, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`mimic configs` lists them"
        raise ConfigError(f"no config {name} comes with mimic; {hint}")
    return configs[key]


def shipped_configs() -> dict[str, Path]:
    """Return the paths of all YAMLs shipped with mimic by name, such as ``train/debug``.

    Shipped files are next to the package in a checkout and inside it in a wheel.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "demo.yaml").is_file():
            paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*.yaml"))}
            return {name.with_suffix("").as_posix(): path for name, path in paths.items()}
    return {}


def config_path(path: str | os.PathLike[str]) -> Path:
    """Resolve a user's path of a YAML: ``bundled:…`` names one shipped with mimic, ``~`` the home directory.

    Raises:
        ConfigError: no shipped YAML has that name.
    """
    name = os.fspath(path)
    if name.startswith("bundled:"):
        return shipped_config(name.removeprefix("bundled:"))
    return local_path(name)


def split_override(override: str, schema: type[BaseModel] | None = None) -> tuple[str, Any]:
    """Split ``key=value`` into a key and a typed value.

    The value is parsed as YAML, except for settings of `schema` that are text, such as paths and names: their
    value is taken literally, without surrounding quotes, even if it looks like a number.

    Args:
        override: ``key=value``.
        schema: the settings class; None parses every value as YAML.

    Raises:
        ConfigError: ``=`` or the key before it is missing.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            f"cannot read {shown(override, _LONGEST)}; expected key=value, for example test_case.0.seed=3"
        )
    if key.count(".") >= _DEEPEST:
        raise ConfigError(f"cannot set {shown(key, _LONGEST)}: settings are not nested so deeply")
    if schema is not None and (is_optional := _takes_text(schema, key)) is not None:
        if is_optional and text == "null":
            return key, None
        return key, text[1:-1] if re.fullmatch(r"""'[^']*'|"[^"]*\"""", text) else text
    try:
        value = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
    except RecursionError as error:
        raise ConfigError(f"cannot set {key}: its value is nested too deeply") from error
    except _NO_YAML:
        return key, text  # plain text with characters that are special in YAML
    assert isinstance(value, dict)
    return key, value["value"]


def _takes_text(schema: type[BaseModel], key: str) -> bool | None:
    """Return whether a text setting also accepts null; None if the setting is not text or unknown."""
    *parents, name = (int(part) if part.isdecimal() else part for part in key.split("."))
    owner = owner_of(schema, parents)
    if owner is None or isinstance(name, int):
        return None
    name = getattr(owner, "OTHER_NAMES", {}).get(name, name)
    if name not in owner.model_fields:
        return None
    annotation = owner.model_fields[name].annotation
    kinds = set(typing.get_args(annotation)) if typing.get_args(annotation) else {annotation}
    return type(None) in kinds if kinds - {type(None)} in ({str}, {Path}) else None


def _change(config: DictConfig, override: str, schema: type[BaseModel] | None) -> None:
    key, value = split_override(override, schema)
    if isinstance(value, str) and schema is not None and _takes_text(schema, key) is not None:
        value = value.replace("${", r"\${")  # no interpolation
    *parents, _ = key.split(".")
    place: Any = config
    for depth, part in enumerate(parents):
        if isinstance(place, ListConfig):
            if not part.isdecimal() or int(part) >= len(place):
                where = ".".join(parents[:depth])
                raise ConfigError(
                    f"cannot set {key}: {where} has {len(place)} entries, numbered from 0; there is no {part}"
                )
            place = place[int(part)]
        elif isinstance(place, DictConfig):
            place = place.get(part)
        else:
            break
    try:
        OmegaConf.update(config, key, value)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"cannot set {key}: {one_line(error)}") from error


def check_kind(content: Mapping[str, Any], source: str | os.PathLike[str], command: str) -> None:
    """Raise `ConfigError` if a YAML is one of another command; the message names that command.

    Args:
        content: values by key.
        source: the file.
        command: the command that reads it, one of `COMMAND_KEYS`.
    """
    if content.keys() & COMMAND_KEYS[command]:
        return
    for other, keys in COMMAND_KEYS.items():
        if content.keys() & keys:
            raise ConfigError(f"{source} is a config of another command: mimic {other} --config {source}")


COMMAND_KEYS = {
    "infer": frozenset({"test_case"}),
    "train": frozenset({"family", "trainer"}),
    "compare": frozenset({"variants"}),
}
"""Keys by which a YAML's command is recognised."""


def _complaints(schema: type[BaseModel], problems: list[dict[str, Any]]) -> list[str]:
    """Describe each fault; unknown keys of one place share one list of the settings there."""
    strangers: dict[tuple[int | str, ...], list[str]] = {}
    complaints = []
    for problem in problems:
        location = problem["loc"]
        owner = owner_of(schema, location[:-1]) if location else None
        if problem["type"] == "extra_forbidden" and owner is not None and not near(location, owner):
            strangers.setdefault(location[:-1], []).append(_dotted(location))
        else:
            complaints.append(_complaint(schema, problem))
    for place, keys in strangers.items():
        owner = owner_of(schema, place)
        assert owner is not None
        are = "is not a setting" if len(keys) == 1 else "are not settings"
        more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        known = sorted(known_keys(owner))
        listed_by = getattr(owner, "LISTED_BY", None)
        where = f"`{listed_by}` lists the settings" if listed_by and len(known) > _MOST_KEYS else ""
        complaints.append(
            f"{', '.join(keys[:_MOST])}{more} {are}. {where or 'Settings here: ' + ', '.join(known)}"
        )
    return complaints


def _told_once(complaints: list[str]) -> list[str]:
    """Keep the first of complaints that differ only in the entry of a list."""
    groups: dict[str, list[str]] = {}
    for complaint in complaints:
        groups.setdefault(re.sub(r"\[\d+\]", "[]", complaint), []).append(complaint)
    return [
        first if not others else f"{first} (and the same in {len(others)} more)"
        for first, *others in groups.values()
    ]


def _complaint(schema: type[BaseModel], problem: dict[str, Any]) -> str:
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    place = _dotted(location)
    owner = owner_of(schema, location[:-1]) if location else None
    if owner is not None:
        other_names = getattr(owner, "OTHER_NAMES", None)
        others = other_names.items() if isinstance(other_names, Mapping) else ()
        place += "".join(f" ({other})" for other, name in others if name == location[-1])
    if kind == "extra_forbidden" and owner is not None:
        return f"{place} is not a setting; did you mean {near(location, owner)}?"
    if kind == "missing":
        meaning = (owner.model_fields[str(location[-1])].description or "") if owner is not None else ""
        return f"{place} is missing{': ' + _first_sentence(meaning) if meaning else ''}"
    message = in_plain_words(str(problem["msg"]))
    if not location or kind == "value_error":
        return f"{place}: {message}" if place else message
    if kind == "string_unicode":
        return (
            f"{place} is {shown(value, _LONGEST)}, which is no text in this system's encoding "
            f"({sys.getfilesystemencoding()}); set PYTHONUTF8=1, or rename the file"
        )
    quotes = "; put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
    return f"{place} is {shown(value, _LONGEST)}; {message.replace('Input should be', 'expected', 1)}{quotes}"


def _shipped_of_that_name(path: Path) -> str:
    """Name the shipped YAML that a path of a checkout, ``configs/train/mini.yaml``, would be."""
    shipped = [name for name in shipped_configs() if Path(name).name == path.stem]
    return f"; did you mean bundled:{shipped[0]}?" if shipped and path.suffix in (".yaml", "") else ""


def _dotted(location: Sequence[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{one_line(part, 60)}" for part in location)
    return "".join(parts).lstrip(".")


def _first_sentence(text: str) -> str:
    return text.split(". ", 1)[0].strip().rstrip(".")
