"""Write docs/notebook.ipynb from docs/notebook.md: text and code blocks become cells.

python docs/write_notebook.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("notebook.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")
"""To another page, which is not beside a notebook that was copied."""
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Yield (``markdown`` or ``code``, source) of each cell of a page."""
    for number, part in enumerate(_CODE.split(text)):
        if part.strip():
            yield ("code", part.strip()) if number % 2 else ("markdown", _LINK.sub(r"*\1*", part.strip()))


def notebook() -> str:
    """The notebook as JSON."""
    content = {
        "cells": [
            _cell(number, *cell) for number, cell in enumerate(cells(PAGE.read_text(encoding="utf-8")))
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source.splitlines(True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8")
    print(NOTEBOOK)
