"""Former names of public modules: importing one warns for one release and gives the new module's names."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def names_of(new: str, *, old: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that looks names up in the module `new` and warns that it was called `old`."""

    def look_up(name: str) -> Any:
        value = getattr(importlib.import_module(new), name)
        message = f"{old} is called {new} now; the old name goes in the next release"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return value

    return look_up
