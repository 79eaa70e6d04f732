"""Where progress is a bar, and where it is none."""

import io
import sys

import pytest

from mimic.progress import counted, has_bar, log_as_json, progress_bar


@pytest.fixture
def _json():
    log_as_json(io.StringIO())
    yield
    log_as_json(None)


def test_bars_are_for_terminals_and_notebooks(monkeypatch):
    assert not has_bar()
    monkeypatch.setattr("mimic.progress.is_notebook", lambda: True)
    assert has_bar()
    monkeypatch.setattr("mimic.progress.is_notebook", lambda: False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert has_bar()


@pytest.mark.usefixtures("_json")
def test_no_bar_is_drawn_where_progress_is_logged_as_json(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert not has_bar()


def test_a_program_without_a_console_counts_all_the_same(monkeypatch):
    """`pythonw` has neither stdout nor stderr."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    with progress_bar("poses", "frame", is_shown=True) as show:
        for done in range(3):
            show(done, 2)


def test_one_thing_is_told_in_the_singular() -> None:
    assert [counted(number, "clip") for number in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert [counted(number, "process") for number in (1, 2)] == ["1 process", "2 processes"]
