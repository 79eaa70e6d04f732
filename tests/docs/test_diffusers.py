"""The page on diffusers has the table that its script writes: each feature and each family has a cell."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mimic.families.registry import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"

spec = importlib.util.spec_from_file_location("diffusers_table", DOCS / "diffusers_table.py")
assert spec is not None
assert spec.loader is not None
diffusers_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diffusers_table)


def test_the_table_has_a_row_for_each_feature_and_a_column_for_each_family() -> None:
    page = diffusers_table.PAGE.read_text(encoding="utf-8")
    table = page.partition(diffusers_table.BEGIN)[2].partition(diffusers_table.END)[0]
    header, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in header.strip("|").split("|")][1:]
    assert names == [record.pipeline_name.removesuffix("Pipeline") for record in FAMILIES.values()]
    cells = {row.split("|")[1].strip(): [each.strip() for each in row.split("|")[2:-1]] for row in rows}
    assert list(cells) == list(diffusers_table.FEATURES), "run python docs/diffusers_table.py"
    known = ("exact", "close (", "runs", "refused [", "not installed [")
    assert all(cell.startswith(known) for row in cells.values() for cell in row)
