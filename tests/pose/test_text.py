"""What messages show of files: short, on one line, nothing that steers a terminal."""

import pytest

from pose.text import one_line, printable, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a b", "a b"),
        ("two\n  lines", "two lines"),
        ("\x1b[2Jcleared\x07", "\\x1b[2Jcleared\\x07"),
        ("é\u2028\u202eback", "é \\u202eback"),
        ("half \ud800", "half \\ud800"),
        ("x" * 1000, "x" * 297 + "..."),
        (KeyError("a\x1b"), "'a\\x1b'"),
        (ValueError(), "ValueError"),
        ("", ""),
        pytest.param(10**5000, "a huge value", id="huge"),
    ],
)
def test_texts_are_one_line_of_letters_that_can_be_seen(text: object, line: str) -> None:
    assert one_line(text) == line


def test_values_are_shown_as_python_writes_them_but_short() -> None:
    assert shown("a\x1b") == "'a\\x1b'"
    assert shown("x" * 1000) == f"'{'x' * 56}..."
    assert shown([10**5000]) == "a huge value"
    assert shown({"a": [1, None]}) == "{'a': [1, None]}"


def test_lines_stay_lines() -> None:
    assert printable("one\n\ttwo\r\x1b[0m \u2066") == "one\n\ttwo\\r\\x1b[0m \\u2066"
