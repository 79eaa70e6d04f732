"""Hooks of the site's builder: pages link to files beside `docs/`, as they do in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def on_files(files: Files, config: Any) -> Files:
    """Add the sheets that benchmarks made."""
    for sheet in sorted(RESULTS.rglob("*.png")):
        name = f"images/results/{sheet.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(sheet)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links out of `docs/` at those sheets; other files are named without a link."""
    markdown = re.sub(r"\]\(\.\./benchmarks/results/([^)]+\.png)\)", r"](images/results/\1)", markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
