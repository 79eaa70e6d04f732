"""Every choice of the page makes settings that a case takes."""

from __future__ import annotations

import pytest

from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.ui.settings import FIELDS, settings_of

START = {field.name: field.component().value for field in FIELDS}
"""What the page shows at first."""


def chosen(**values: object) -> CaseSettings:
    given = [{**START, **values}[field.name] for field in FIELDS]
    return build(CaseSettings, settings_of(0, 0, "largest", *given), "settings")


@pytest.mark.parametrize("align", ["released", "robust", "limbs", "none"])
@pytest.mark.parametrize("anchor", ["automatic", "first", "mean", "ground"])
def test_every_fit_goes_with_every_place(align: str, anchor: str) -> None:
    case = chosen(align=align, anchor=anchor)
    is_placed = align in ("robust", "limbs") and anchor != "automatic"
    assert (case.align, case.anchor) == (align, anchor if is_placed else None)


def test_the_page_begins_with_the_defaults_of_the_command_line() -> None:
    """All but the fit, which shows bodies of other proportions at their best."""
    assert chosen() == build(CaseSettings, {"align": "limbs"}, "settings")


def test_corrections_become_one_setting() -> None:
    case = chosen(adjust_x=0.1, adjust_rotate=5.0, adjust_limbs_shin=1.2)
    assert case.adjust == {"rotate": 5.0, "offset": [0.1, 0.0], "limbs": {"shin": 1.2}}
