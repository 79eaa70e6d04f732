"""The tables of `benchmarks.training_memory`, and where they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic.files import whole_file, write_json

RESULT = Path("benchmarks/results/training_memory.json")
PAGE = Path("docs/memory.md")
BEGIN, END = "<!-- python -m benchmarks.training_memory -->", "<!-- end -->"
SHARE = 0.9
"""Of the memory that a config names, which its peak may take."""
_GROUPS = {
    "phases": "GB of one process, computed, not measured. The peak of each phase on the device:",
    "parts": "Parts of the step:",
    "main memory": "Main memory of each process: activations moved there, its copy of a checkpoint while it "
    "is written, and the whole model that the main process builds for export:",
}


def print_and_write(rows: Mapping[str, Mapping[str, Any]], *, is_written: bool) -> None:
    """Print the tables; also write them and the result that they are made of."""
    result = {"method": "computed, not measured", "unit": "GB of one process", "settings": rows}
    print(tables(result))
    if is_written:
        write_json(RESULT, result)
        write_page(result)


def tables(result: Mapping[str, Any]) -> str:
    """Return phases, parts of the step and main memory of all configs, Markdown."""
    rows = result["settings"]
    parts = []
    for group, title in _GROUPS.items():
        columns = list(next(iter(rows.values()))[group])
        has_device = group == "phases"
        lines = [title, "", f"| config | {' | '.join(columns)} |" + " device |" * has_device]
        lines.append("| --- |" + " ---: |" * len(columns) + " --- |" * has_device)
        for name, row in rows.items():
            kind = {"cuda": "GPU", "cpu": "CPU"}[row["device"]]
            end = f" {kind}, {row['memory']:.1f} |" if has_device else ""
            figures = " | ".join(f"{row[group][column]:.2f}" for column in columns)
            lines.append(f"| {name} | {figures} |{end}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_page(result: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the tables in place of those in the page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    with whole_file(page) as beside:
        beside.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{after}", encoding="utf-8")
