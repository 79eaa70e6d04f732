"""Saved configs that hold a subclass's own arguments, and not all those of the diffusers model it narrows."""

from __future__ import annotations

import inspect
import json


class OwnConfig:
    """Mixin, to stand before the diffusers model in a class's bases.

    The parent's constructor registers its many arguments, too, and its `forward` looks them up; in a file
    they would only be refused when it is read again.
    """

    def to_json_string(self) -> str:
        """The text of `config.json`."""
        own = set(inspect.signature(type(self).__init__).parameters)
        content = json.loads(super().to_json_string())  # type: ignore[misc]
        kept = {name: value for name, value in content.items() if name in own or name.startswith("_")}
        return json.dumps(kept, indent=2, sort_keys=True) + "\n"
