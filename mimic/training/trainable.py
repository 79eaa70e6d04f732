"""Which parameters train: names of networks, of parts that a family knows, or patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from mimic.config.loading import ConfigError


def names_of(
    model: nn.Module, names: Sequence[str], parts: Mapping[str, Sequence[str]], *, setting: str = "trainable"
) -> list[str]:
    """The parameters that `names` mean, in the model's order.

    Args:
        model: holds the networks under the names that users know (``unet``, ``pose_net``).
        names: each a module (``unet``, ``unet.down_blocks.0``), a parameter, a part, or a pattern with ``*``.
        parts: of the family, as of `TrainingTask.parts`.
        setting: where the names were written, for the message.

    Raises:
        ConfigError: a name means nothing; the message lists what there is.
    """
    known = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for name in names:
        patterns = parts.get(name, [name, f"{name}.*"])
        matching = [key for key in known if any(fnmatchcase(key, pattern) for pattern in patterns)]
        if not matching:
            raise ConfigError(f"{setting}: {unknown(name, model, parts)}")
        chosen.update(matching)
    return [key for key in known if key in chosen]


def select(
    model: nn.Module, names: Sequence[str], parts: Mapping[str, Sequence[str]], *, setting: str = "trainable"
) -> list[str]:
    """Let the named parameters train and freeze all others: those get no gradients, nor activations kept for
    them.

    Returns:
        names of the parameters that train.

    Raises:
        ConfigError: as of `names_of`.
    """
    chosen = names_of(model, names, parts, setting=setting)
    freeze_except(model, chosen)
    return chosen


def freeze_except(model: nn.Module, chosen: Iterable[str]) -> None:
    """Only the parameters named in `chosen` want gradients."""
    wanted = set(chosen)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in wanted)


def unknown(name: str, model: nn.Module, parts: Mapping[str, Sequence[str]]) -> str:
    """The sentence about a name that means nothing here."""
    networks = [child for child, module in model.named_children() if any(True for _ in module.parameters())]
    known = [*networks, *parts]
    modules = [key for key, _ in model.named_modules() if key]
    near = difflib.get_close_matches(name, [*known, *modules], n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return (
        f"'{name}' means no parameter of this model{hint} Known are {', '.join(known)}, modules inside them "
        "such as unet.conv_in, and patterns with *."
    )
