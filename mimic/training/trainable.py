"""Select the parameters to train: by names of networks, of parts that a family defines, or by patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from mimic.config.loading import ConfigError


def names_of(
    model: nn.Module,
    names: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    *,
    inert: Sequence[str] = (),
    setting: str = "trainable",
) -> list[str]:
    """Return the names of the parameters that `names` select, in the model's order.

    Args:
        model: holds the networks under the names that users know (``unet``, ``pose_net``).
        names: each a module (``unet``, ``unet.down_blocks.0``), a parameter, a part, or a pattern with ``*``.
        parts: of the family, as `TrainingTask.parts`.
        inert: patterns of parameters that are never selected, as `TrainingTask.inert`.
        setting: name of the setting, for error messages.

    Raises:
        ConfigError: a name matches no parameter, or none that has an effect.
    """
    known = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for name in names:
        patterns = parts.get(name, [name, f"{name}.*"])
        matching = [key for key in known if is_among(key, patterns)]
        if not matching:
            raise ConfigError(f"{setting}: {unknown(name, model, parts)}")
        effective = [key for key in matching if not is_among(key, inert)]
        if not effective:
            raise ConfigError(f"{setting}: {without_effect(name)}")
        chosen.update(effective)
    return [key for key in known if key in chosen]


def select(
    model: nn.Module,
    names: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    *,
    inert: Sequence[str] = (),
    setting: str = "trainable",
) -> list[str]:
    """Train the selected parameters and freeze all others, which then need neither gradients nor saved
    activations.

    Returns:
        names of the trained parameters.

    Raises:
        ConfigError: as `names_of`.
    """
    chosen = names_of(model, names, parts, inert=inert, setting=setting)
    freeze_except(model, chosen)
    return chosen


def freeze_except(model: nn.Module, chosen: Iterable[str]) -> None:
    """Require gradients for the parameters named in `chosen` only."""
    wanted = set(chosen)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in wanted)


def is_among(key: str, patterns: Iterable[str]) -> bool:
    """Return whether a parameter's name matches any of some patterns."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def without_effect(name: str) -> str:
    """Return the error message for a name that selects only parameters without effect."""
    return (
        f"'{name}' selects only queries, keys or norms of attention to a single token, on which no result "
        "depends; leave it out, or name attn2.to_v and attn2.to_out"
    )


def unknown(name: str, model: nn.Module, parts: Mapping[str, Sequence[str]]) -> str:
    """Return the error message for a name that matches no parameter."""
    networks = [child for child, module in model.named_children() if any(True for _ in module.parameters())]
    known = [*networks, *parts]
    modules = [key for key, _ in model.named_modules() if key]
    near = difflib.get_close_matches(name, [*known, *modules], n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return (
        f"'{name}' means no parameter of this model{hint} Known are {', '.join(known)}, modules inside them "
        "such as unet.conv_in, and patterns with *."
    )
