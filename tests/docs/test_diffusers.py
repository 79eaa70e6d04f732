"""The page on diffusers has the table that its script writes: each feature and each family has a cell."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mimic.families.registry import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"

spec = importlib.util.spec_from_file_location("diffusers_table", DOCS / "diffusers_table.py")
assert spec is not None
assert spec.loader is not None
diffusers_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diffusers_table)

PAGE = diffusers_table.PAGE.read_text(encoding="utf-8")
ROWS = diffusers_table.rows_of(PAGE)
REMEDY = "run python docs/diffusers_table.py"
SAMPLE = ["`Pipeline(**pipe.components)`", "`set_attn_processor`", "`timesteps=`", "`LCMScheduler`"]


def test_the_table_is_as_the_script_writes_it() -> None:
    assert list(ROWS) == list(diffusers_table.FEATURES), REMEDY
    text = PAGE.partition(diffusers_table.BEGIN)[2].partition(diffusers_table.END)[0]
    assert text == f"\n{diffusers_table.table(ROWS)}\n", REMEDY
    known = ("exact", "close (", "runs", "refused", "not installed", "needs a GPU")
    for row in ROWS.values():
        assert len(row) == len(FAMILIES)
        assert all(cell.startswith(known) for cell, _ in row)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "features",
    [
        pytest.param(SAMPLE, id="some"),
        pytest.param(list(diffusers_table.FEATURES), id="all", marks=pytest.mark.slow),
    ],
)
def test_cells_are_what_is_measured(features: list[str]) -> None:
    """Figures of `close` depend on the processor; their kind and the sentences do not."""
    for feature, row in diffusers_table.measured(features).items():
        for (cell, note), (on_page, its_note) in zip(row, ROWS[feature]):
            if on_page not in ("not installed", "needs a GPU"):
                assert cell.partition(" (")[0] == on_page.partition(" (")[0], f"{feature}: {REMEDY}"
                assert note == its_note, f"{feature}: {REMEDY}"
