"""Save in a config only the arguments of our own constructor, not all those of the diffusers parent."""

from __future__ import annotations

import inspect
import json


class OwnConfig:
    """Mixin, to be placed before the diffusers model in the list of base classes.

    The parent's constructor registers its arguments as well, and its `forward` reads them. A config file must
    not contain them, because our constructor does not accept them when the file is loaded.
    """

    def to_json_string(self) -> str:
        """The text of `config.json`."""
        own = set(inspect.signature(type(self).__init__).parameters)
        content = json.loads(super().to_json_string())  # type: ignore[misc]
        kept = {name: value for name, value in content.items() if name in own or name.startswith("_")}
        return json.dumps(kept, indent=2, sort_keys=True) + "\n"
