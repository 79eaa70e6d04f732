"""The plan of a run: all settings resolved once, for the call, the checks and the reports.

Legend: F frames.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from mimic.config.loading import ConfigError, build
from mimic.config.sampling import SamplingSettings
from mimic.sampling.noise import Generators
from mimic.sampling.presets import PRESETS, preset_settings

SettingsT = TypeVar("SettingsT", bound=SamplingSettings)

_NUMBER = TypeAdapter(int)
_SMALL_WINDOW, _SMALL_WINDOW_ON_CPU = 65536, 16384  # latent pixels


@dataclass(frozen=True)
class Plan(Generic[SettingsT]):
    """Size, frames, windows, steps, guidance and noise of a run, made by `AnimationPipeline.plan`."""

    height: int
    width: int
    num_frames: int
    """Number of frames of the latents, including the reference's if `shows_reference_first`."""
    tile_size: int
    tile_overlap: int
    layout: str
    """Layout of the windows; one of `mimic.sampling.windows.WINDOW_LAYOUTS`."""
    windows: list[list[int]]
    """Frame indices of each window."""
    num_inference_steps: int
    guidance_scales: Tensor
    """Guidance scale of each frame, ``F``; all 1 without guidance."""
    fusion: str
    noise: str
    decode_chunk_size: int
    decode_overlap: int
    generator: Generators
    settings: SettingsT
    """All settings, including the family's; of the shared ones only those without a default may be None."""

    @property
    def is_optimized(self) -> bool:
        """Whether faster implementations are used where the results differ only by rounding."""
        return self.settings.optimize and self.settings.compat == "none"

    def batches_guidance(self, latent_shape: tuple[int, int, int], device: torch.device) -> bool:
        """Whether both branches of guidance are computed in one call, by the setting or else by size.

        Args:
            latent_shape: (channels, height, width) of a frame's latents.
            device: where the network computes. With windows that fill it, one call has nothing to win.
        """
        if self.settings.batch_guidance is not None or not self.is_optimized:
            return bool(self.settings.batch_guidance)
        longest = max(len(window) for window in self.windows)
        small = _SMALL_WINDOW_ON_CPU if device.type == "cpu" else _SMALL_WINDOW
        return longest * latent_shape[1] * latent_shape[2] <= small

    def as_settings(self) -> dict[str, Any]:
        """Return all settings by name, with the values that the run uses."""
        return {
            **self.settings.model_dump(),
            "height": self.height,
            "width": self.width,
            "windows": self.layout,
        }


def resolve(
    schema: type[SettingsT],
    given: Mapping[str, Any],
    *,
    stored: Mapping[str, Any],
    released: Mapping[str, Any],
    source: str,
    takes_sigmas: bool = False,
) -> SettingsT:
    """Resolve each setting: the given value, else the one stored with the weights, else the released one.

    Args:
        schema: the settings class.
        given: settings by name, or by a name in the schema's `OTHER_NAMES`; None counts as not given.
        stored: likewise; keys that are not settings are ignored.
        released: released values by setting.
        source: prefix of error messages.
        takes_sigmas: whether the model's scheduler takes noise levels (see `mimic.sampling.presets`).

    Raises:
        ConfigError: a setting is unknown or invalid (a `ValueError`).
    """
    own = _own_names(schema, given)
    for name in own.keys() - schema.model_fields.keys():
        near = difflib.get_close_matches(name, schema.model_fields, n=1)
        remedy = f"did you mean {near[0]}?" if near else "leave it out."
        raise ConfigError(f"{source} has no setting {name}; {remedy}")
    own = _guidance_pair(own)
    kept, published = (
        {name: value for name, value in _own_names(schema, layer).items() if name in schema.model_fields}
        for layer in (stored, released)
    )
    values: dict[str, Any] = {"preset": "exact", "schedule": "released", "reuse_interval": 1}
    values |= {**published, **_guidance_pair(kept)}
    preset = own.get("preset", values["preset"])
    if preset in tuple(PRESETS):  # others are refused below, and may be lists
        values |= preset_settings(preset, values, takes_sigmas=takes_sigmas)
    values |= own
    if "tile_overlap" not in own:
        values["tile_overlap"] = _at_most(values["tile_overlap"], values["tile_size"], lambda size: size - 1)
    if "decode_overlap" not in own:
        overlap, chunk = values.get("decode_overlap", 0), values["decode_chunk_size"]
        values["decode_overlap"] = _at_most(overlap, chunk, lambda size: (size - 1) // 2)
    if "windows" not in own and values["fusion"] in ("progressive", "none") and values["windows"] == "closed":
        values["windows"] = "sliding"  # these fusions depend on the order of the windows
    return build(schema, values, source=source)


def _at_most(overlap: Any, size: Any, most: Callable[[int], int]) -> Any:
    """Return the overlap, shortened for its size; as it is where one of the two is no number of frames, which
    the settings refuse."""
    try:
        own, whole = (_NUMBER.validate_python(value) for value in (overlap, size))
    except ValidationError:
        return overlap
    return min(own, max(most(whole), 0))


def with_step_count(chosen: SettingsT) -> SettingsT:
    """Return settings whose `num_inference_steps` is the number of the given `sigmas` or `timesteps`."""
    if chosen.timesteps is not None:
        return chosen.model_copy(update={"num_inference_steps": len(chosen.timesteps)})
    if chosen.sigmas is not None:
        return chosen.model_copy(update={"num_inference_steps": sum(sigma > 0 for sigma in chosen.sigmas)})
    return chosen


def _own_names(schema: type[SamplingSettings], settings: Mapping[str, Any]) -> dict[str, Any]:
    others = getattr(schema, "OTHER_NAMES", {})
    return {
        others.get(name, name): value.item() if isinstance(value, np.generic) else value
        for name, value in settings.items()
        if value is not None
    }


def _guidance_pair(settings: dict[str, Any]) -> dict[str, Any]:
    """Replace `guidance_scale` by minimum and maximum; if only one of the two is given, it is used for
    both."""
    first, last = (settings.get(f"{end}_guidance_scale") for end in ("min", "max"))
    both = settings.pop("guidance_scale", None)
    if both is not None:
        first = last = both
    if first is None and last is None:
        return settings
    return {
        **settings,
        "min_guidance_scale": last if first is None else first,
        "max_guidance_scale": first if last is None else last,
    }


_NUM_POSITIONAL = 5  # image, image_pose, height, width, num_frames


def with_settings(call: Callable[..., Any], schema: type[SamplingSettings]) -> Callable[..., Any]:
    """Return a copy of a pipeline's call that lists its ``**settings`` in its signature and its docstring."""
    others = {ours: name for name, ours in getattr(schema, "OTHER_NAMES", {}).items()}
    signature = inspect.signature(call)
    fields = {others.get(name, name): field for name, field in schema.model_fields.items()}
    spelled = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=field.annotation)
        for name, field in fields.items()
    ]
    explicit = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]

    @functools.wraps(call)
    def spelled_call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        explicit_ones, further = arguments[:_NUM_POSITIONAL], arguments[_NUM_POSITIONAL:]
        if len(further) > len(self.positional):
            most = _NUM_POSITIONAL + len(self.positional)
            raise TypeError(f"{type(self).__name__} takes at most {most} arguments by position.")
        for name, value in zip(self.positional, further):
            if name in keywords:
                raise TypeError(f"{type(self).__name__} got two values for '{name}'.")
            keywords[name] = value
        for name in keywords:
            if name not in accepted:
                near = difflib.get_close_matches(name, accepted, n=1, cutoff=0.7)
                raise TypeError(
                    f"{type(self).__name__} takes no argument '{name}'"
                    + (f"; did you mean '{near[0]}'?" if near else ".")
                )
        return call(self, *explicit_ones, **keywords)

    accepted = [parameter.name for parameter in (*explicit, *spelled)][1:]
    spelled_call.__signature__ = signature.replace(parameters=[*explicit, *spelled])  # type: ignore[attr-defined]
    meanings = [
        f"    {name}: {' '.join((field.description or '').split())}" for name, field in fields.items()
    ]
    spelled_call.__doc__ = "\n".join(
        [inspect.cleandoc(call.__doc__ or ""), "", "Settings, keyword-only (`Settings`):", *meanings]
    )
    return spelled_call
