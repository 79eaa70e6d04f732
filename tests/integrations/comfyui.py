"""ComfyUI itself as host: its schema, loading of packs, validation and executor, without a server.

`COMFYUI_DIR` names a checkout. Packages that ComfyUI imports and the pack does not need, such as torchvision,
are replaced by empty ones where they are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPARE = (
    "torchvision", "torchvision.transforms", "torchaudio", "torchaudio.transforms", "torchaudio.functional",
    "spandrel", "kornia", "soundfile",
)  # fmt: skip
EXTRAS = ("nodes_video.py", "nodes_preview_any.py")


class ComfyUI:
    """A ComfyUI checkout with the pack loaded."""

    def __init__(self, folder: Path, pack: Path, inputs: Path, outputs: Path) -> None:
        sys.path.insert(0, str(folder))
        for name in SPARE:
            if importlib.util.find_spec(name.partition(".")[0]) is None or name.partition(".")[0] in _made:
                _make(name)
        arguments, sys.argv = sys.argv, ["comfyui", "--cpu"]
        try:
            import comfy.options

            comfy.options.enable_args_parsing()
            import execution
            import folder_paths
            import nodes
        finally:
            sys.argv = arguments
        folder_paths.set_input_directory(str(inputs))
        folder_paths.set_output_directory(str(outputs))
        folder_paths.set_temp_directory(str(outputs / "temp"))
        for path in (*(folder / "comfy_extras" / name for name in EXTRAS), pack):
            assert asyncio.run(nodes.load_custom_node(str(path))), f"{path} is not loaded"
        self._execution, self.nodes = execution, nodes.NODE_CLASS_MAPPINGS
        server = types.SimpleNamespace(
            client_id=None, last_node_id=None, sockets_metadata={}, send_sync=lambda *_: None
        )
        self._executor = execution.PromptExecutor(server)
        self.on_progress: Callable[[str, int, int, Any], None] = lambda *_: None
        import comfy.utils

        comfy.utils.set_progress_bar_global_hook(self._progress)

    def errors(self, prompt: dict[str, Any]) -> list[str]:
        """What is wrong with a prompt before it is run."""
        _, error, _, by_node = asyncio.run(self._execution.validate_prompt("one", prompt, None))
        details = [entry["details"] for node in by_node.values() for entry in node["errors"]]
        return details or ([error["message"]] if error else [])

    def run(self, prompt: dict[str, Any]) -> Any:
        """Run a prompt; returns its events, and results and shown texts by node."""
        valid, error, outputs, by_node = asyncio.run(self._execution.validate_prompt("one", prompt, None))
        assert valid, error
        assert not by_node
        executor = self._executor
        executor.execute(prompt, "one", {}, outputs)
        events = dict(executor.status_messages)
        found = {node: executor.caches.outputs.get(node) for node in prompt}
        results = {node: [one[0] for one in values] for node, values in found.items() if values is not None}
        return types.SimpleNamespace(events=events, results=results, shown=executor.history_result["outputs"])

    def interrupt(self) -> None:
        """What the page's cancel button does."""
        import nodes

        nodes.interrupt_processing()

    def _progress(self, value: int, total: int, preview: Any, node_id: str | None = None) -> None:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy_execution.utils import get_executing_context

        throw_exception_if_processing_interrupted()
        self.on_progress(node_id or get_executing_context().node_id, value, total, preview)


_made: set[str] = set()


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _make(name: str) -> None:
    _made.add(name.partition(".")[0])
    module = _Empty(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    with contextlib.suppress(KeyError):
        del sys.modules[name]
    sys.modules[name] = module
