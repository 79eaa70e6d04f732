"""Reports of comparisons and trainings: which there are, and their pages with the files that they name."""

from __future__ import annotations

import functools
import html
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

NAME = "report.html"
MAX_DEPTH = 6
"""How many folders deep reports are looked for."""
_NAMED = re.compile(r"""(?:src|href)=["']([^"'#:?]+)["']""")


class Reports:
    """The reports below a folder. Hidden folders are not looked through.

    Args:
        folder: an absolute path without links.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Paths of the reports below the folder, the newest first."""
        return [name for _, name in sorted(self._found(), reverse=True)]

    def address(self, name: str) -> str:
        """Where the studio serves a report, relative to its own page."""
        return f"reports/{quote(name)}"

    def route(self) -> Route:
        """Return the route below ``/reports``."""
        return Route("/reports/{name:path}", self._answer, methods=["GET"])

    def file(self, name: str) -> Path | None:
        """The file of an address: a report, or a file that a report in a folder above it names. None for all
        others, and for what is outside the folder."""
        try:
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder) or not path.is_file():
                return None
        except (OSError, ValueError):  # no name of a file
            return None
        if path.name == NAME:
            return path
        for place in path.parents:
            if not place.is_relative_to(self.folder):
                break
            if path.relative_to(place).as_posix() in _files_of(place / NAME):
                return path
        return None

    async def _answer(self, request: Request) -> Response:
        path = await run_sync(self.file, request.path_params["name"])
        if path is None:
            return Response("there is no such report, or none that names this file", status_code=404)
        # Scripts of a report's players run, without access to the studio's page.
        return FileResponse(path, headers={"Content-Security-Policy": "sandbox allow-scripts"})

    def _found(self) -> Iterator[tuple[float, str]]:
        for place, folders, files in os.walk(self.folder):
            is_deep = len(Path(place).relative_to(self.folder).parts) >= MAX_DEPTH
            folders[:] = [] if is_deep else [each for each in folders if not each.startswith(".")]
            path = Path(place, NAME)
            if NAME in files and path.is_file():
                yield path.stat().st_mtime, path.relative_to(self.folder).as_posix()


def _files_of(report: Path) -> frozenset[str]:
    """The relative addresses that a report names; none if there is no report."""
    try:
        return _named_in(report, report.stat().st_mtime_ns)
    except OSError:
        return frozenset()


@functools.lru_cache(maxsize=32)
def _named_in(report: Path, mtime_ns: int) -> frozenset[str]:
    text = report.read_text(encoding="utf-8", errors="replace")
    return frozenset(unquote(html.unescape(each)) for each in _NAMED.findall(text))
