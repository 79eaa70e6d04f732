"""A module with some of its parts replaced for a single call, without changing the module itself.

A parent class's `forward` can be run on such a view, so that a subclass changes what one layer does without
hooks, without state on `self` and without a copy of the parent's code. Threads that share the module do not
see each other's views, and `torch.compile` traces through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class View:
    """Attributes of `module`, except for those given here.

    Args:
        module: where all other attributes are looked up.
        parts: replacements by attribute name.
    """

    def __init__(self, module: nn.Module, **parts: Any) -> None:
        self.__dict__.update(parts)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class CalledAs(View):
    """A module that is called through a function: ``call(module, *inputs, **arguments)``."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__(module)
        self._call = call

    def __call__(self, *inputs: Any, **arguments: Any) -> Any:
        return self._call(self._module, *inputs, **arguments)
