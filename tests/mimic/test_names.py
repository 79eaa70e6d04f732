"""Names of results: what some system refuses is refused on all; names of inputs become names of results."""

from __future__ import annotations

import pytest

from mimic import names


@pytest.mark.parametrize(
    "name",
    ["take:1", "what?", "con", "NUL.mp4", "con .a", "CONIN$", "a/b", "a\\b", "tab\there", "end.", " lead",
     "-o", "", "..", "é" * 100, "bad\udcff"],
)  # fmt: skip
def test_a_name_that_some_system_refuses_has_a_fault_and_a_safe_neighbour(name: str) -> None:
    assert names.fault_of(name) is not None
    assert names.fault_of(names.made_safe(name)) is None


@pytest.mark.parametrize("name", ["dance", "my dance #shorts", "2024-05-01", "踊り", "null", "a.b", "007"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert names.fault_of(name) is None
    assert names.made_safe(name) == name


def test_a_name_is_shortened_between_characters() -> None:
    assert names.made_safe("舞" * 70) == "舞" * 60
    assert names.shortened("ab", 1) == "a"


def test_names_that_differ_by_case_or_by_unicode_form_clash() -> None:
    assert names.first_clash(["Dance", "walk", "dance"]) == ("Dance", "dance")
    assert names.first_clash(["caf\u00e9", "cafe\u0301"]) is not None
    assert names.first_clash(["one", "two"]) is None
