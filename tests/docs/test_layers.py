"""The picture of the layers in CONTRIBUTING.md."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

spec = importlib.util.spec_from_file_location("draw_layers", DOCS / "draw_layers.py")
assert spec is not None
assert spec.loader is not None
draw_layers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_layers)


def test_the_picture_shows_the_imports_of_the_code() -> None:
    expected = draw_layers.main()
    kept = draw_layers.PICTURE.read_text(encoding="utf-8")
    assert kept == expected, "the imports have changed: run python docs/draw_layers.py"


def test_boxes_lie_inside_of_the_layers() -> None:
    picture = draw_layers.PICTURE.read_text(encoding="utf-8")
    number = r'class="{}[^"]*" x="(\d+)" y="\d+" width="(\d+)"'
    boxes = [(int(x), int(x) + int(w)) for x, w in re.findall(number.format("box"), picture)]
    layers = [(int(x), int(x) + int(w)) for x, w in re.findall(number.format("layer"), picture)]
    assert len(boxes) > 20
    assert min(layers)[0] <= min(left for left, _ in boxes)
    assert max(right for _, right in boxes) <= layers[0][1]


def test_every_import_between_parts_is_an_arrow_or_implied_by_arrows() -> None:
    imports = draw_layers.read_imports(draw_layers.read_layers())
    arrows = draw_layers.without_implied(imports)
    assert arrows <= imports
    reached = set(arrows)
    while more := {(a, d) for a, b in reached for c, d in arrows if b == c} - reached:
        reached |= more
    assert imports <= reached


def test_contributing_names_every_part_and_only_modules_that_exist() -> None:
    text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for part in draw_layers.PURPOSES:
        assert f"`{part}`" in text, part
    for path in set(re.findall(r"`((?:mimic|pose|docs|tests|configs)/[\w./]+)`", text)):
        assert (DOCS.parent / path).exists(), path


def test_contributing_names_functions_that_exist() -> None:
    """Names in backquotes such as `mimic.sampling.denoise.denoise` lead to something."""
    text = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:mimic|pose)(?:\.\w+)+)(?:\([^`]*\))?`", text))
    assert names
    for name in names:
        assert _exists(name), name


def _exists(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_boxes_lie_within_the_picture() -> None:
    picture = (DOCS / "images" / "layers.svg").read_text(encoding="utf-8")
    width = int(re.findall(r'viewBox="0 0 (\d+) ', picture)[0])
    boxes = re.findall(r'<rect class="box [^"]*" x="(-?\d+)" y="\d+" width="(\d+)"', picture)
    assert boxes
    assert all(int(x) > 0 and int(x) + int(own) < width for x, own in boxes)
