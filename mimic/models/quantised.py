"""Quantise the linear layers of a network by torchao, an optional package."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from torch import nn

KINDS = {
    "int8": "Int8WeightOnlyConfig",
    "float8": "Float8WeightOnlyConfig",
    "int8_dynamic": "Int8DynamicActivationInt8WeightConfig",
    "float8_dynamic": "Float8DynamicActivationFloat8WeightConfig",
}
"""Names of torchao's configs by the name of the setting."""


def check_torchao() -> None:
    """Raise `ValueError` if torchao is not installed."""
    if importlib.util.find_spec("torchao") is None:
        raise ValueError(
            "torchao quantises by the package of this name, which is not installed; pip install torchao, or "
            "leave torchao out."
        )


def quantise(network: nn.Module, kind: str) -> None:
    """Quantise the weights of all linear layers, in place; norms and convolutions keep their precision.

    Layers whose weights torchao has changed are no longer taken for plain ones: `mimic.models.speed` calls
    them as they are.

    Args:
        network: in its final precision.
        kind: a key of `KINDS`.

    Raises:
        ValueError: torchao is not installed, or its version does not know the kind.
    """
    check_torchao()
    torchao: Any = importlib.import_module("torchao.quantization")
    config = getattr(torchao, KINDS[kind], None)
    if config is None:
        raise ValueError(
            f"this version of torchao has no {KINDS[kind]}, which torchao={kind} needs; update it."
        )
    torchao.quantize_(network, config(), filter_fn=lambda module, _name: isinstance(module, nn.Linear))
