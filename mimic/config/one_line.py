"""The settings of `mimic animate` and `mimic.generate`: a picture, a clip and the name of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic.config.inference import CaseConfig, InferenceConfig, merged
from mimic.config.loading import ConfigError, build, check_kind, read_yaml, shipped_config, split_override
from mimic.files import local_path

RELEASED_MODELS = {
    "mimicmotion": "test.yaml",
    "animate-anyone": "animate_anyone.yaml",
    "magic-animate": "magic_animate.yaml",
}
"""Names of released models, and the shipped YAML with their weights and settings."""

_CHECKPOINT_SUFFIXES = (".pth", ".safetensors", ".ckpt", ".pt")
_SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
_OF_ONE_CASE = ("ref_image_path", "ref_video_path", "name")


def named_model(model: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Resolve what users give as model into settings of a run and of its cases.

    Args:
        model: `mimicmotion`, `animate-anyone` or `magic-animate` for the released weights with their released
            settings; a YAML, whose model and first case's settings are taken; a MimicMotion checkpoint
            (``.pth``, ``.safetensors``), loaded with Stable Video Diffusion; or what `base_model_path` takes:
            a model folder, a hub id, ``bundled:…``.

    Returns:
        settings of `InferenceConfig` and of `CaseSettings`, by name.

    Raises:
        ConfigError: the YAML is missing, invalid or one of another command; or the checkpoint lies in a model
            folder, which has all that is needed.
    """
    text = os.fspath(model)
    if text in RELEASED_MODELS:
        return _of_yaml(shipped_config(RELEASED_MODELS[text]))
    if text.lower().endswith((".yaml", ".yml")):
        return _of_yaml(local_path(text))
    path = local_path(text)
    if text.lower().endswith(_CHECKPOINT_SUFFIXES) and not path.is_dir():
        if (path.parent / "model_index.json").is_file():
            raise ConfigError(f"{text} lies in a whole model; give its folder, {path.parent}")
        return {"base_model_path": _SVD, "ckpt_path": text}, {}
    return {"base_model_path": text}, {}


def animate_config(
    pairs: Sequence[tuple[str, str]],
    *,
    model: str,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> InferenceConfig:
    """Return the config of `mimic animate`.

    Args:
        pairs: picture and driving clip of each case.
        model: as `named_model` takes it.
        name: of the result, if there is one pair.
        settings: settings of all cases, by name; None counts as not given.
        overrides: ``key=value``, which win over the other settings.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """
    top, case = named_model(model)
    own: dict[str, Any] = {}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.startswith("test_case") or key in _OF_ONE_CASE:
            raise ConfigError(f"cannot set {key} here; the command has one picture, one clip and one name")
        if key in InferenceConfig.FOR_ALL_CASES:
            own.update([split_override(override, CaseConfig)])
        else:
            top.update([split_override(override, InferenceConfig)])
    given = {key: value for key, value in (settings or {}).items() if value is not None}
    cases = [
        merged(case, given, own, {"ref_image_path": picture, "ref_video_path": clip, "name": name})
        for picture, clip in pairs
    ]
    # A fault in a setting of all cases is told once.
    build(CaseConfig, cases[0], source="settings")
    return build(InferenceConfig, {**top, "test_case": cases}, source="settings")


def _of_yaml(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content = read_yaml(path, (), InferenceConfig)
    check_kind(content, path, "infer")
    cases = content.pop("test_case", None) or [{}]
    for_all = {key: content.pop(key) for key in [*content] if key in InferenceConfig.FOR_ALL_CASES}
    content.pop("output_dir", None)
    first = cases[0] if isinstance(cases, list) and isinstance(cases[0], Mapping) else {}
    case = merged(for_all, first)
    return content, {key: value for key, value in case.items() if key not in _OF_ONE_CASE}
