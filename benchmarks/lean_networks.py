"""Make the networks bundled with the pose estimator cheaper to run without changing what they compute.

    pip install onnx
    python benchmarks/lean_networks.py ORIGINALS [--to pose/bundled]

ORIGINALS is a folder with the converted networks of MediaPipe (those of commit ac5a75c). Two things change:

- Hidden channels whose filter is all zero have one value everywhere, whatever the picture. They are removed,
  and what they add to the following layer goes into its bias. The last blocks of the hand network lose half
  of their channels this way.
- PReLU, which onnxruntime computes element by element, is written as the larger of x and slope x.

Outputs differ by rounding alone; `tests/pose/blazepose/test_networks.py` compares them with recorded ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BUNDLED = Path(__file__).parents[1] / "pose" / "bundled"
BLOCK = 16  # channels
Weights = NDArray[np.float32]


class Graph:
    """A network's nodes and constants by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._index()

    def _index(self) -> None:
        self.maker = {output: node for node in self.nodes for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def weights(self, name: str) -> Weights | None:
        """A constant as float32, also one stored in half precision behind a Cast; None for other values."""
        if name in self.constants:
            return np.asarray(self.constants[name], np.float32)
        maker = self.maker.get(name)
        if maker is not None and maker.op_type == "Cast" and maker.input[0] in self.constants:
            return np.asarray(self.constants[maker.input[0]], np.float32)
        return None

    def set_weights(self, node: onnx.NodeProto, place: int, values: Weights) -> None:
        """Give a node an own constant, in half precision where that loses nothing."""
        half = values.astype(np.float16)
        exact = bool((half.astype(np.float32) == values).all())
        name = f"{node.output[0]}_lean_{place}"
        while len(node.input) <= place:
            node.input.append("")
        if not exact:
            self.constants[name] = values.astype(np.float32)
            node.input[place] = name
            return
        self.constants[name + "_half"] = half
        cast = onnx.helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT)
        node.input[place] = name
        self.nodes.insert(self.nodes.index(node), cast)
        self._index()

    def replace(self, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
        place = self.nodes.index(old)
        self.nodes[place : place + 1] = new
        self._index()

    def finished(self) -> onnx.ModelProto:
        """The model without what nothing reads."""
        needed = {output.name for output in self.model.graph.output}
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        constants = [numpy_helper.from_array(v, k) for k, v in self.constants.items() if k in needed]
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
        graph.initializer.extend(constants)
        onnx.checker.check_model(self.model, full_check=True)
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def activation_after(graph: Graph, conv: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Clip or Relu that alone reads a convolution."""
    readers = graph.readers.get(conv.output[0], [])
    return readers[0] if len(readers) == 1 and readers[0].op_type in ("Clip", "Relu") else None


def activated(graph: Graph, node: onnx.NodeProto, values: Weights) -> Weights:
    if node.op_type == "Relu":
        return np.maximum(values, 0)
    low, high = (graph.weights(name) for name in node.input[1:3])
    return np.clip(values, low, high)


def only_reader(graph: Graph, name: str) -> onnx.NodeProto | None:
    readers = graph.readers.get(name, [])
    return readers[0] if len(readers) == 1 else None


def remove_constant_channels(graph: Graph) -> int:
    """Remove channels between an expanding, a depthwise and a projecting convolution that never vary."""
    removed = 0
    for expand in [node for node in graph.nodes if node.op_type == "Conv"]:
        block = _block(graph, expand)
        if block is None:
            continue
        depthwise, second, project = block
        w1, b1 = _weights(graph, expand)
        w2, b2 = _weights(graph, depthwise)
        w3, b3 = _weights(graph, project)
        # Without a weight in the depthwise filter, the zeros around the picture make no difference either.
        is_constant = np.asarray(~w2.any(axis=(1, 2, 3)))
        # The runtime's blocked layout needs multiples of its blocks.
        num_missing = -int((~is_constant).sum()) % BLOCK
        is_constant[np.flatnonzero(is_constant)[:num_missing]] = False
        if not is_constant.any():
            continue
        value = activated(graph, second, b2[is_constant])
        added = w3[:, is_constant, 0, 0].astype(np.float64) @ value
        keep = ~is_constant
        graph.set_weights(expand, 1, w1[keep])
        graph.set_weights(expand, 2, b1[keep])
        graph.set_weights(depthwise, 1, w2[keep])
        graph.set_weights(depthwise, 2, b2[keep])
        graph.set_weights(project, 1, w3[:, keep])
        graph.set_weights(project, 2, (b3 + added).astype(np.float32))
        next(a for a in depthwise.attribute if a.name == "group").i = int(keep.sum())
        removed += int(is_constant.sum())
    return removed


def _weights(graph: Graph, convolution: onnx.NodeProto) -> tuple[Weights, Weights]:
    """Filters and biases."""
    filters, biases = (graph.weights(name) for name in convolution.input[1:3])
    assert filters is not None
    assert biases is not None
    return filters, biases


def _block(graph: Graph, expand: onnx.NodeProto) -> tuple[onnx.NodeProto, ...] | None:
    first = activation_after(graph, expand)
    depthwise = only_reader(graph, first.output[0]) if first is not None else None
    if first is None or depthwise is None or depthwise.op_type != "Conv":
        return None
    weights = graph.weights(depthwise.input[1])
    if weights is None or attribute(depthwise, "group", 1) != len(weights):
        return None
    second = activation_after(graph, depthwise)
    project = only_reader(graph, second.output[0]) if second is not None else None
    if second is None or project is None or project.op_type != "Conv" or attribute(project, "group", 1) != 1:
        return None
    projecting = graph.weights(project.input[1])
    if projecting is None or projecting.shape[2:] != (1, 1) or attribute(expand, "group", 1) != 1:
        return None
    return depthwise, second, project


def replace_prelu(graph: Graph) -> int:
    """Write PReLU as the larger of x and slope x or, where a slope is above 1, as the sum of both halves."""
    found = [node for node in graph.nodes if node.op_type == "PRelu"]
    node = onnx.helper.make_node
    for prelu in found:
        x, (y,) = prelu.input[0], prelu.output
        slope, scaled, positive, negative = (
            f"{y}_{name}" for name in ("slope", "scaled", "positive", "negative")
        )
        values = graph.weights(prelu.input[1])
        assert values is not None
        graph.constants[slope] = values.reshape(1, -1, 1, 1)
        if values.max() <= 1:
            new = [node("Mul", [x, slope], [scaled]), node("Max", [x, scaled], [y])]
        else:
            graph.constants[y + "_zero"] = np.zeros(1, np.float32)
            new = [
                node("Relu", [x], [positive]),
                node("Min", [x, y + "_zero"], [negative]),
                node("Mul", [negative, slope], [scaled]),
                node("Add", [positive, scaled], [y]),
            ]
        graph.replace(prelu, new)
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("originals", type=Path)
    parser.add_argument("--to", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    for path in sorted(arguments.originals.glob("*.onnx")):
        graph = Graph(onnx.load(path))
        removed, replaced = remove_constant_channels(graph), replace_prelu(graph)
        print(f"{path.name}: {removed} constant channels removed, {replaced} PReLU replaced")
        if removed or replaced:
            onnx.save(graph.finished(), arguments.to / path.name)


if __name__ == "__main__":
    main()
