"""Convert keys of AnimateDiff-style motion modules between released checkpoints and diffusers.

A released module has a list of two attentions with one position table each; diffusers has ``attn1`` and
``attn2`` with one table for both. The conversion checks that both tables are equal before one is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mimic.weights.strict import State, WeightsError

_MODULE = re.compile(r"(?P<module>.*motion_modules\.\d+\.)temporal_transformer\.(?P<rest>.*)")
_TABLE = re.compile(r"(.*)attention_blocks\.\d+\.pos_encoder\.pe")
_FORWARD = (
    (re.compile(r"attention_blocks\.(\d+)\."), lambda found: f"attn{int(found[1]) + 1}."),
    (re.compile(r"(?<=\.)norms\.(\d+)\."), lambda found: f"norm{int(found[1]) + 1}."),
    (re.compile(r"(?<=\.)ff_norm\."), lambda _found: "norm3."),
)
_BACKWARD = (
    (re.compile(r"(?<=\.)attn(\d)\."), lambda found: f"attention_blocks.{int(found[1]) - 1}."),
    (re.compile(r"(?<=\.)norm([12])\."), lambda found: f"norms.{int(found[1]) - 1}."),
    (re.compile(r"(?<=\.)norm3\."), lambda _found: "ff_norm."),
)
_OURS = re.compile(r"(?P<module>.*motion_modules\.\d+\.)(?P<rest>.*)")


def is_motion_key(key: str) -> bool:
    """Return whether a key, released or ours, belongs to a motion module."""
    return "motion_modules." in key


def to_diffusers(state: Mapping[str, Tensor], *, source: object) -> State:
    """Rename the keys of a released state to diffusers' names; other than motion modules' keys are unchanged.

    Args:
        state: tensors under released keys.
        source: named in error messages.

    Raises:
        WeightsError: the position tables of a module differ, which diffusers cannot represent (a
            `ValueError`).
    """
    renamed: State = {}
    for key, tensor in state.items():
        place = diffusers_key(key)
        known = renamed.get(place)
        if known is not None and not _same(known, tensor):
            raise WeightsError(
                f"{source}: {key} differs from the other table of positions of its motion module; both "
                "attentions need the same table."
            )
        renamed[place] = tensor
    return renamed


def to_released(state: Mapping[str, Tensor]) -> State:
    """Rename our keys to the released names, with one position table per attention; inverts
    `to_diffusers`."""
    renamed: State = {}
    for key, tensor in state.items():
        found = _OURS.fullmatch(key)
        if found is None:
            renamed[key] = tensor
            continue
        module, rest = f"{found['module']}temporal_transformer.", found["rest"]
        if rest.endswith("pos_embed.pe"):
            block = rest.removesuffix("pos_embed.pe")
            for attention in (0, 1):
                renamed[f"{module}{block}attention_blocks.{attention}.pos_encoder.pe"] = tensor.clone()
            continue
        for pattern, replacement in _BACKWARD:
            rest = pattern.sub(replacement, rest)
        renamed[module + rest] = tensor
    return renamed


def diffusers_key(key: str) -> str:
    """Return the diffusers key of a released key."""
    found = _MODULE.fullmatch(key)
    if found is None:
        return key
    rest = found["rest"]
    if table := _TABLE.fullmatch(rest):
        return f"{found['module']}{table[1]}pos_embed.pe"
    for pattern, replacement in _FORWARD:
        rest = pattern.sub(replacement, rest)
    return found["module"] + rest


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return one.is_meta or other.is_meta or torch.equal(one, other)
