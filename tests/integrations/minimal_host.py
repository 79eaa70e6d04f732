"""A small host with the names of ComfyUI that the pack uses; validates and runs prompts as the server does.

Written for these tests, for places without ComfyUI. Nodes run in inference mode, nodes whose inputs are
unchanged are not run again, and a cancelled run ends with `execution_interrupted`, as there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage

from mimic.video import VideoWriter, probe, read_frames


class InterruptProcessingException(Exception):
    """The user cancelled."""


class _Input:
    kind = "*"

    def __init__(self, id: str, **options: Any) -> None:
        known = {
            "default", "min", "max", "step", "options", "tooltip", "optional", "multiline", "display_name",
            "control_after_generate",
        }  # fmt: skip
        assert set(options) <= known, f"{id}: {set(options) - known} are no options of an input"
        self.id, self.is_optional = id, options.pop("optional", False)
        self.options = options


class _Output:
    kind = "*"

    def __init__(self, id: str, display_name: str | None = None, tooltip: str | None = None) -> None:
        self.id = id


def _custom(kind: str) -> Any:
    name = kind.title()
    return type(
        name, (), {"Input": type("Input", (_Input,), {"kind": kind}),
                   "Output": type("Output", (_Output,), {"kind": kind})},
    )  # fmt: skip


class _Schema:
    def __init__(
        self,
        node_id: str,
        display_name: str | None = None,
        category: str = "",
        description: str = "",
        inputs: list[_Input] | None = None,
        outputs: list[_Output] | None = None,
        is_output_node: bool = False,
    ) -> None:
        self.node_id, self.is_output_node = node_id, is_output_node
        self.inputs, self.outputs = inputs or [], outputs or []
        names = [one.id for one in (*self.inputs, *self.outputs)]
        assert len(set(names)) == len(names), f"{node_id}: ids of inputs and outputs must be unique: {names}"


class _NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class _ComfyNode:
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        kinds: dict[str, Any] = {"required": {}, "optional": {}}
        for one in cls.define_schema().inputs:  # type: ignore[attr-defined]
            kinds["optional" if one.is_optional else "required"][one.id] = (one.kind, one.options)
        return kinds


class _ComfyExtension:
    async def get_node_list(self) -> list[Any]:
        raise NotImplementedError


class _PreviewText:
    def __init__(self, value: str) -> None:
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self.value,)}


class _ProgressBar:
    host: Any = None

    def __init__(self, total: int) -> None:
        self.total, self.current = total, 0

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        type(self).host.move(self.current, self.total, preview)


class MinimalHost:
    """Loads the pack, validates prompts and runs them in the order of their links."""

    def __init__(self, pack: Path, inputs: Path, outputs: Path) -> None:
        self._inputs, self._outputs, self._is_cancelled, self._running = inputs, outputs, False, ""
        self._made: dict[str, Any] = {}
        self.on_progress: Callable[[str, int, int, Any], None] = lambda *_: None
        _ProgressBar.host = self
        io = types.SimpleNamespace(
            Custom=_custom, Schema=_Schema, ComfyNode=_ComfyNode, NodeOutput=_NodeOutput,
            Int=_custom("INT"), Float=_custom("FLOAT"), String=_custom("STRING"), Boolean=_custom("BOOLEAN"),
            Combo=_custom("COMBO"), Image=_custom("IMAGE"),
        )  # fmt: skip
        _module("comfy_api").latest = _module(
            "comfy_api.latest",
            io=io,
            ui=types.SimpleNamespace(PreviewText=_PreviewText),
            ComfyExtension=_ComfyExtension,
        )
        _module("comfy", utils=_module("comfy.utils", ProgressBar=_ProgressBar)).model_management = _module(
            "comfy.model_management",
            throw_exception_if_processing_interrupted=self._throw_if_cancelled,
            unload_all_models=lambda: None,
            soft_empty_cache=lambda: None,
        )
        place = importlib.util.spec_from_file_location(
            "mimic_nodes", pack / "__init__.py", submodule_search_locations=[str(pack)]
        )
        assert place is not None
        assert place.loader is not None
        module = sys.modules["mimic_nodes"] = importlib.util.module_from_spec(place)
        place.loader.exec_module(module)
        extension = asyncio.run(module.comfy_entrypoint())
        assert isinstance(extension, _ComfyExtension)
        found = asyncio.run(extension.get_node_list())
        self.nodes = {node.define_schema().node_id: node for node in (*found, *_core_nodes(io, self))}

    def file(self, name: str) -> Path:
        return self._inputs / name

    def saved(self, name: str) -> Path:
        path = self._outputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def errors(self, prompt: dict[str, Any]) -> list[str]:
        """What is wrong with a prompt before it is run."""
        return [text for node in prompt.values() for text in self._errors_of(node, prompt)]

    def run(self, prompt: dict[str, Any]) -> Any:
        """Run a prompt; returns its events, and results and shown texts by node."""
        assert not (wrong := self.errors(prompt)), wrong
        self._is_cancelled = False
        results: dict[str, list[Any]] = {}
        shown: dict[str, Any] = {}
        events: dict[str, Any] = {}
        with torch.inference_mode():
            for name in self._in_order(prompt):
                self._running = name
                try:
                    self._throw_if_cancelled()
                    key = _key(name, prompt)
                    if key not in self._made:
                        self._made[key] = self._call(prompt[name], results)
                    made = self._made[key]
                except InterruptProcessingException:
                    events["execution_interrupted"] = {"node_id": name}
                    break
                except Exception as error:
                    events["execution_error"] = {"node_id": name, "exception_message": str(error)}
                    break
                results[name] = list(made.args)
                if made.ui is not None:
                    shown[name] = made.ui.as_dict()
            else:
                events["execution_success"] = {}
        return types.SimpleNamespace(events=events, results=results, shown=shown)

    def interrupt(self) -> None:
        """What the page's cancel button does."""
        self._is_cancelled = True

    def move(self, value: int, total: int, preview: Any) -> None:
        """Called by progress bars."""
        self._throw_if_cancelled()
        self.on_progress(self._running, value, total, preview)

    def _throw_if_cancelled(self) -> None:
        if self._is_cancelled:
            self._is_cancelled = False
            raise InterruptProcessingException

    def _call(self, node: dict[str, Any], results: dict[str, list[Any]]) -> Any:
        given = {
            key: results[value[0]][value[1]] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
        return self.nodes[node["class_type"]].execute(**given)

    def _in_order(self, prompt: dict[str, Any]) -> Iterator[str]:
        done: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            for value in prompt[name]["inputs"].values():
                if isinstance(value, list) and value[0] not in done:
                    yield from visit(value[0])
            if name not in done:
                done.add(name)
                yield name

        for name, node in prompt.items():
            if self.nodes[node["class_type"]].define_schema().is_output_node:
                yield from visit(name)

    def _errors_of(self, node: dict[str, Any], prompt: dict[str, Any]) -> Iterator[str]:
        schema = self.nodes[node["class_type"]].define_schema()
        for one in schema.inputs:
            if one.id not in node["inputs"]:
                if not one.is_optional:
                    yield f"{one.id} is missing"
                continue
            value = node["inputs"][one.id]
            if isinstance(value, list):
                source = self.nodes[prompt[value[0]]["class_type"]].define_schema()
                kind = source.outputs[value[1]].kind
                if kind != one.kind and "*" not in (kind, one.kind):
                    yield f"{one.id}, received_type({kind}) mismatch input_type({one.kind})"
                continue
            if one.kind not in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}:
                yield f"{one.id} needs a link"
            elif one.kind == "COMBO" and value not in one.options.get("options", [value]):
                yield f"{one.id}: {value} is not in {one.options['options']}"
            elif one.kind in ("INT", "FLOAT"):
                low, high = one.options.get("min", value), one.options.get("max", value)
                if not low <= value <= high:
                    yield f"{one.id}"


def _key(name: str, prompt: dict[str, Any]) -> str:
    """Describe a node with everything that it is made of."""
    node = prompt[name]
    inputs = {
        key: [_key(value[0], prompt), value[1]] if isinstance(value, list) else value
        for key, value in node["inputs"].items()
    }
    return json.dumps([node["class_type"], inputs], sort_keys=True)


def _module(name: str, **content: Any) -> Any:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


def _core_nodes(io: Any, host: MinimalHost) -> list[Any]:
    """The nodes of ComfyUI that the example workflow uses."""

    def load_image(image: str) -> tuple[Any, ...]:
        with PILImage.open(host.file(image)) as opened:
            pixels = np.array(opened.convert("RGB"))
        return torch.from_numpy(pixels)[None].float() / 255, torch.zeros(1, *pixels.shape[:2])

    def load_video(file: str) -> tuple[Any, ...]:
        return (host.file(file),)

    def components(video: Path) -> tuple[Any, ...]:
        frames = torch.from_numpy(np.stack(list(read_frames(video)))).float() / 255
        return frames, None, float(probe(video).fps)

    def create(images: Any, fps: float, audio: Any = None) -> tuple[Any, ...]:
        return ((images, fps),)

    def save(video: Any, filename_prefix: str, format: str, codec: str) -> tuple[Any, ...]:
        images, fps = video
        path = host.saved(f"{filename_prefix}_00001_.mp4")
        with VideoWriter(path, height=images.shape[1], width=images.shape[2], fps=fps) as writer:
            for frame in images:
                writer.write((frame * 255).round().byte().numpy())
        return ()

    image, video, audio = (_custom(kind) for kind in ("IMAGE", "VIDEO", "AUDIO"))
    table: list[tuple[str, list[Any], list[Any], Any, bool]] = [
        ("LoadImage", [_upload("image")], [image.Output("IMAGE"), _custom("MASK").Output("MASK")],
         load_image, False),
        ("LoadVideo", [_upload("file")], [video.Output("VIDEO")], load_video, False),
        ("GetVideoComponents", [video.Input("video")],
         [image.Output("images"), audio.Output("audio"), io.Float.Output("fps")], components, False),
        ("PreviewAny", [_custom("*").Input("source")], [], lambda source: (), True),
        ("PreviewImage", [image.Input("images")], [], lambda images: (), True),
        ("CreateVideo",
         [image.Input("images"), io.Float.Input("fps"), audio.Input("audio", optional=True)],
         [video.Output("VIDEO")], create, False),
        ("SaveVideo",
         [video.Input("video"), io.String.Input("filename_prefix"), io.Combo.Input("format"),
          io.Combo.Input("codec")], [], save, True),
    ]  # fmt: skip
    return [_core_node(io, *row) for row in table]


def _upload(name: str) -> _Input:
    found = _custom("COMBO").Input(name)
    found.options["image_upload"] = True
    return found


def _core_node(
    io: Any, name: str, inputs: list[Any], outputs: list[Any], work: Callable[..., Any], is_output: bool
) -> Any:
    class Node(io.ComfyNode):  # type: ignore[misc, name-defined]
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema(node_id=name, inputs=inputs, outputs=outputs, is_output_node=is_output)

        @classmethod
        def execute(cls, **given: Any) -> Any:
            return io.NodeOutput(*work(**given))

    return Node
