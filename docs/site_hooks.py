"""Hooks of the site's builder: pages are written for the repository and become pages of the site.

Links to files beside `docs/` are resolved, pictures that link to videos become players, and the search dialog
of the theme gets the name that screen readers need.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHEETS = (".png", ".jpg")


def on_files(files: Files, config: Any) -> Files:
    """Add the sheets that benchmarks made."""
    for sheet in sorted(path for path in RESULTS.rglob("*") if path.suffix in SHEETS):
        name = f"images/results/{sheet.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(sheet)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links out of `docs/` at those sheets, name other files without a link, and make players."""
    markdown = re.sub(
        rf"\]\(\.\./benchmarks/results/([^)]+(?:{'|'.join(map(re.escape, SHEETS))}))\)",
        r"](images/results/\1)",
        markdown,
    )
    lost = re.findall(r"!\[[^\]]*\]\((\.\./[^)]+)\)", markdown)
    if lost:
        raise PluginError(
            f"{page.file.src_path} shows pictures that the site does not have: {', '.join(lost)}"
        )
    markdown = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)

    def player(found: re.Match[str]) -> str:
        label, *files = found.groups()
        poster, video = (get_relative_url(file, page.url) for file in files)
        return (
            f'<video controls loop muted playsinline preload="none" poster="{poster}" src="{video}" '
            f'aria-label="{label}"></video>'
        )

    return re.sub(r"\[!\[([^\]]+)\]\(([^)]+\.jpg)\)\]\(([^)]+\.mp4)\)", player, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Let names in tables break at their joints, so that narrow screens do not break them in the midst."""

    def breakable(cell: re.Match[str]) -> str:
        return re.sub(r"(?<=[a-z0-9])([_=/:.]+)(?=[a-z0-9])", r"\1<wbr>", cell[0])

    return re.sub(r"(?s)<td.*?</td>", lambda cell: re.sub(r"<code>.*?</code>", breakable, cell[0]), html)


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search dialog."""
    return output.replace(
        'data-md-component="search" role="dialog"',
        'data-md-component="search" role="dialog" aria-label="Search"',
    )
