"""Draw the layers of the package and the imports between their parts: docs/images/layers.svg.

    python docs/draw_layers.py

The layers are those of the import contract in pyproject.toml. The arrows are read from the code by grimp,
which comes with import-linter; an arrow that others imply (A → C where A → B → C) is left out.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # import-linter brings it

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "layers.svg"

PURPOSES = {
    "mimic.cli": "commands",
    "mimic.ui": "the studio, a web page",
    "mimic.miniature": "bundled models",
    "mimic.compare": "models side by side",
    "mimic.training": "the trainer",
    "mimic.generation": "picture and clip to video",
    "mimic.families": "published systems",
    "mimic.data": "clips and batches",
    "mimic.dancers": "rendered dancers",
    "mimic.metrics": "measures",
    "mimic.provenance": "facts about a run",
    "mimic.results": "results that exist",
    "mimic.models": "networks",
    "mimic.devices": "device and precision",
    "mimic.distributed": "several processes",
    "mimic.cluster": "tasks on a Ray cluster",
    "mimic.config": "settings",
    "mimic.weights": "reading weights",
    "mimic.video": "videos and pictures",
    "mimic.sampling": "windows and denoising",
    "mimic.files": "whole files",
    "mimic.locks": "one run a folder",
    "mimic.progress": "progress bars",
    "mimic.names": "safe file names",
    "pose": "poses; reads videos",
}
WITHOUT_LAYER = {"mimic", "mimic.__main__", "mimic.report", "mimic.train"}
"""The package's own names, starts of commands, and a former name of a module."""
NOT_DRAWN = {"mimic.renamed"}
"""What keeps former names of modules working."""

WIDTH, MARGIN = 1160, 28
BOX_WIDTH, BOX_HEIGHT, LANE = 152, 46, 16
PITCH = 102
"""Distance between the tops of two layers."""

LIGHT = ("#0a5bc4", "#8250df", "#1a7f37", "#b35900", "#c2255c", "#0b7285", "#6741d9", "#2b6a4d", "#57606a")
DARK = ("#6cb0f5", "#c4a5ff", "#63d17d", "#f2a65a", "#ff8fb4", "#5fd0e0", "#b9a6ff", "#8fd6b0", "#c0c8d0")
"""Colours of the layers, the highest first; an arrow has the colour of the part that imports."""


def _style() -> str:
    def colours(palette: tuple[str, ...]) -> str:
        return " ".join(
            f".layer{number} {{ stroke: {colour}; }} .head{number} {{ fill: {colour}; }}"
            for number, colour in enumerate(palette)
        )

    return f"""
  .page {{ fill: #ffffff; stroke: #d0d7de; }} .layer {{ fill: #f3f6f9; }} .box {{ fill: #ffffff; }}
  .name {{ fill: #1f2328; }} .purpose {{ fill: #57606a; }}
  {colours(LIGHT)}
  @media (prefers-color-scheme: dark) {{
    .page {{ fill: #0d1117; stroke: #30363d; }} .layer {{ fill: #161c24; }} .box {{ fill: #212830; }}
    .name {{ fill: #f0f3f6; }} .purpose {{ fill: #a9b3bd; }}
    {colours(DARK)}
  }}
  .box {{ stroke-width: 1.5; }} .import {{ fill: none; stroke-width: 1.5; }}
  text {{ font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; text-anchor: middle; }}
  .name {{ font-size: 13px; font-weight: 600; }} .purpose {{ font-size: 11px; }}
"""


Edge = tuple[str, str]
Lane = tuple[str, str]
"""The place of an arrow in a layer that it crosses, named by the arrow."""
Place = str | Lane


def read_layers() -> list[list[str]]:
    """Names of the parts of each layer, the highest layer first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[part.strip() for part in layer.split("|")] for layer in layers]


def read_imports(layers: list[list[str]]) -> set[Edge]:
    """(importing part, imported part), of all modules.

    Raises:
        ValueError: a part of the package is in no layer, or `PURPOSES` does not say what it is for.
    """
    graph = grimp.build_graph("mimic", "pose", exclude_type_checking_imports=True, cache_dir=None)
    found = {_part_of(module) for module in graph.modules} - WITHOUT_LAYER
    placed = {part for layer in layers for part in layer}
    if found != placed:
        raise ValueError(f"in pyproject's layers or in the code, not in both: {sorted(found ^ placed)}")
    drawn = found - NOT_DRAWN
    if drawn != set(PURPOSES):
        raise ValueError(f"PURPOSES has to name what is in the layers: {sorted(drawn ^ set(PURPOSES))}")
    edges = {
        (_part_of(module), _part_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return {(upper, lower) for upper, lower in edges if upper != lower and {upper, lower} <= drawn}


def _part_of(module: str) -> str:
    names = module.split(".")
    return names[0] if names[0] == "pose" else ".".join(names[:2])


def without_implied(edges: set[Edge]) -> set[Edge]:
    """The edges that no longer way replaces (the transitive reduction)."""
    below: dict[str, set[str]] = {}
    for upper, lower in edges:
        below.setdefault(upper, set()).add(lower)

    def reached(part: str) -> set[str]:
        direct = below.get(part, set())
        return direct.union(*(reached(each) for each in direct))

    return {
        (upper, lower)
        for upper, lower in edges
        if not any(lower in reached(other) for other in below[upper] - {lower})
    }


def ways_of(layers: list[list[str]], edges: Iterable[Edge]) -> dict[Edge, list[Place]]:
    """The places that each arrow passes, one in each layer from its first to its last."""
    level = {part: number for number, layer in enumerate(layers) for part in layer}
    return {
        (upper, lower): [upper, *[(upper, lower)] * (level[lower] - level[upper] - 1), lower]
        for upper, lower in sorted(edges)
    }


class Rows:
    """The order and position of parts and lanes in each layer, so that few arrows cross."""

    def __init__(self, layers: list[list[str]], edges: set[Edge]) -> None:
        self.level = {part: number for number, layer in enumerate(layers) for part in layer}
        self.ways = ways_of(layers, edges)
        self.places: list[list[Place]] = [list(layer) for layer in layers]
        self.links: list[list[tuple[Place, Place]]] = [[] for _ in layers]
        """Between each layer and the next one."""
        for (upper, _), way in self.ways.items():
            for number, (above, below) in enumerate(itertools.pairwise(way), start=self.level[upper]):
                self.links[number].append((above, below))
                if isinstance(below, tuple):
                    self.places[number + 1].append(below)
        self._order()
        self.x = self._positions()

    def _order(self) -> None:
        for turn in range(24):
            numbers = range(len(self.places))
            for number in numbers if turn % 2 == 0 else reversed(numbers):
                near = self._neighbours(number, above=turn % 2 == 0)
                ranks = {place: rank for rank, place in enumerate(self.places[number])}
                self.places[number].sort(key=lambda place: near.get(place, ranks[place]))
        has_changed = True
        while has_changed:
            has_changed = False
            for number, row in enumerate(self.places):
                for left in range(len(row) - 1):
                    before = self._crossings(number)
                    row[left], row[left + 1] = row[left + 1], row[left]
                    if self._crossings(number) < before:
                        has_changed = True
                    else:
                        row[left], row[left + 1] = row[left + 1], row[left]

    def _neighbours(self, number: int, *, above: bool) -> dict[Place, float]:
        """Mean rank of what each place is linked to in the layer above or below."""
        other = number - 1 if above else number + 1
        if not 0 <= other < len(self.places):
            return {}
        rank = {place: float(rank) for rank, place in enumerate(self.places[other])}
        found: dict[Place, list[float]] = {}
        for upper, lower in self.links[min(number, other)]:
            own, far = (lower, upper) if above else (upper, lower)
            found.setdefault(own, []).append(rank[far])
        return {place: sum(ranks) / len(ranks) for place, ranks in found.items()}

    def _crossings(self, number: int) -> int:
        """Crossings of the arrows above and below a layer."""
        total = 0
        for upper in (number - 1, number):
            if not 0 <= upper < len(self.places) - 1:
                continue
            first = {place: rank for rank, place in enumerate(self.places[upper])}
            second = {place: rank for rank, place in enumerate(self.places[upper + 1])}
            ends = [(first[above], second[below]) for above, below in self.links[upper]]
            total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
        return total

    def _positions(self) -> dict[tuple[int, Place], float]:
        """Middle of each place in its layer."""
        x: dict[tuple[int, Place], float] = {}
        for number, row in enumerate(self.places):
            x.update({(number, place): at for place, at in zip(row, _spread(row, [WIDTH / 2] * len(row)))})
        for _ in range(40):
            for number, row in enumerate(self.places):
                wished = []
                for place in row:
                    linked = [x[number + 1, low] for up, low in self.links[number] if up == place]
                    if number > 0:
                        linked += [x[number - 1, up] for up, low in self.links[number - 1] if low == place]
                    wished.append(sum(linked) / len(linked) if linked else x[number, place])
                x.update({(number, place): at for place, at in zip(row, _spread(row, wished))})
        left = min(at - _half(place) for (_, place), at in x.items())
        right = max(at + _half(place) for (_, place), at in x.items())
        shift = (WIDTH - left - right) / 2
        return {place: at + shift for place, at in x.items()}


def _half(place: Place) -> float:
    """Half of the width that a place takes: a box's, or that of an arrow that passes."""
    return (BOX_WIDTH + LANE) / 2 if isinstance(place, str) else LANE / 2


def _spread(row: list[Place], wished: list[float]) -> list[float]:
    """Positions near the wished ones, in order, without overlaps and inside of the picture."""
    half = [_half(place) for place in row]
    from_left, from_right = [], []
    edge = float(MARGIN)
    for at, own in zip(wished, half):
        from_left.append(max(at, edge + own))
        edge = from_left[-1] + own
    edge = float(WIDTH - MARGIN)
    for at, own in zip(reversed(wished), reversed(half)):
        from_right.append(min(at, edge - own))
        edge = from_right[-1] - own
    middle = [(left + right) / 2 for left, right in zip(from_left, reversed(from_right))]
    right = float(WIDTH - MARGIN)  # pushed back inside
    for place in reversed(range(len(row))):
        middle[place] = min(middle[place], right - half[place])
        right = middle[place] - half[place]
    left = float(MARGIN)
    for place in range(len(row)):
        middle[place] = max(middle[place], left + half[place])
        left = middle[place] + half[place]
    return middle


def draw(layers: list[list[str]], edges: set[Edge]) -> str:
    """The picture as SVG.

    Args:
        edges: (upper part, lower part) of each arrow.
    """
    rows = Rows(layers, edges)
    height = 2 * MARGIN + PITCH * (len(layers) - 1) + BOX_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Layers of the package and the imports between them">',
        f"<style>{_style()}</style>",
        "<defs>",
        *(
            f'<marker id="head{number}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path class="head{number}" d="M0 0 L8 4 L0 8 z"/></marker>'
            for number in range(len(LIGHT))
        ),
        "</defs>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number in range(len(layers)):
        top = MARGIN + number * PITCH - 9
        lines.append(
            f'<rect class="layer" x="{MARGIN / 2:.0f}" y="{top}" width="{WIDTH - MARGIN}" '
            f'height="{BOX_HEIGHT + 18}" rx="6"/>'
        )
    ports = _ports(rows)
    for edge, way in rows.ways.items():
        colour = rows.level[edge[0]] % len(LIGHT)
        lines.append(
            f'<path class="import layer{colour}" d="{_curve(rows, edge, way, ports)}" '
            f'marker-end="url(#head{colour})"/>'
        )
    for number, layer in enumerate(layers):
        for part in layer:
            x, y = rows.x[number, part], MARGIN + number * PITCH
            lines += [
                f'<rect class="box layer{number % len(LIGHT)}" x="{x - BOX_WIDTH / 2:.0f}" y="{y}" '
                f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>',
                f'<text class="name" x="{x:.0f}" y="{y + 20}">{part}</text>',
                f'<text class="purpose" x="{x:.0f}" y="{y + 36}">{PURPOSES[part]}</text>',
            ]
    return "\n".join([*lines, "</svg>", ""])


def _ports(rows: Rows) -> dict[tuple[Edge, str], float]:
    """Where each arrow leaves its upper box and reaches its lower one: side by side, in order."""
    ports: dict[tuple[Edge, str], float] = {}
    for end, own, step in (("from", 0, 1), ("to", -1, -1)):
        at: dict[str, list[tuple[float, Edge]]] = {}
        for edge, way in rows.ways.items():
            part = edge[own]
            at.setdefault(part, []).append((rows.x[rows.level[part] + step, way[own + step]], edge))
        for part, arrows in at.items():
            middle = rows.x[rows.level[part], part]
            gap = min(22.0, (BOX_WIDTH - 24) / len(arrows))
            for place, (_, edge) in enumerate(sorted(arrows)):
                ports[edge, end] = middle + (place - (len(arrows) - 1) / 2) * gap
    return ports


def _curve(rows: Rows, edge: Edge, way: list[Place], ports: Mapping[tuple[Edge, str], float]) -> str:
    first = rows.level[edge[0]]
    x, y = ports[edge, "from"], MARGIN + first * PITCH + BOX_HEIGHT
    path = [f"M{x:.0f} {y}"]
    for number, place in enumerate(way[1:], start=first + 1):
        is_end = place == edge[1]
        top = MARGIN + number * PITCH
        to = ports[edge, "to"] if is_end else rows.x[number, place]
        bend = (top - y) * 0.55
        path.append(f"C{x:.0f} {y + bend:.0f} {to:.0f} {top - bend:.0f} {to:.0f} {top}")
        x, y = to, top
        if not is_end:
            y = top + BOX_HEIGHT
            path.append(f"V{y}")
    return " ".join(path)


def main() -> str:
    """The picture of the code as it is."""
    layers = read_layers()
    edges = without_implied(read_imports(layers))
    return draw([[part for part in layer if part not in NOT_DRAWN] for layer in layers], edges)


if __name__ == "__main__":
    PICTURE.write_text(main(), encoding="utf-8", newline="\n")
    print(PICTURE.relative_to(ROOT))
