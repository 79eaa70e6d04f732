"""The documentation: links lead somewhere, commands exist, generated pages are up to date."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import dev
from mimic.cli.main import COMMANDS, _parsed
from mimic.video import read_frames

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "PYPI.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = ("http://", "https://", "mailto:")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """Headings as links name them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(ELSEWHERE):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_navigation_and_the_other_way_round() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    def files(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for value in node.values():
                yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    named = sorted(files(yaml.safe_load(text)["nav"]))
    assert named == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_page_of_settings_is_as_the_schema_says() -> None:
    writer = script("write_settings")
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), "run python docs/write_settings.py"


def test_the_notebook_is_as_its_page() -> None:
    writer = script("write_notebook")
    assert writer.NOTEBOOK.read_text(encoding="utf-8") == writer.notebook(), (
        "run python docs/write_notebook.py"
    )


def run_cells(notebook: Path) -> None:
    """Run the code as Python, where there is no Jupyter."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)


def run_in_a_kernel(notebook: Path) -> None:
    """Run the cells as Jupyter does, and look at what they show."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    nbclient.NotebookClient(content, timeout=1200, kernel_name="python3").execute()
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    assert outputs
    assert [output for output in outputs if output.output_type == "error"] == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("run", [run_cells, run_in_a_kernel])
def test_the_notebook_goes_from_a_picture_to_a_fine_tuned_model(
    run: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(script("write_notebook").NOTEBOOK)
    work = Path("first-hour")
    for name in ("dancing_side_by_side.mp4", "limbs.mp4", "mine.mp4", "run/report.html", "data/contact.png"):
        assert (work / name).is_file()
    made = [np.stack(list(read_frames(work / f"{name}.mp4"))) for name in ("dancing", "mine")]
    assert made[0].shape == made[1].shape == (10, 192, 192, 3)
    assert np.abs(made[0].astype(int) - made[1]).max() > 0, "the weights are others"


BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELLS = ("bash", "powershell")


def lines(page: Path) -> Iterator[str]:
    """Every command line in a page's blocks, without comments; a line that ends in a backslash goes on."""
    for _, language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines() if language in SHELLS else ():
            words = re.sub(r"(^|\s+)#.*", "", line)
            if words.strip():
                yield re.sub(r"\s+", " ", words).strip()


def commands(page: Path) -> Iterator[str]:
    """Those of `lines` that call `mimic`, without variables before it; no outlines."""
    for line in lines(page):
        words = re.sub(r"^(?:[A-Z_]+=\S+ )*(?:python -m )?", "", line)
        if words.startswith("mimic ") and "…" not in words and "DIR" not in words:
            yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page: Path) -> None:
    """Without it, nothing looks at the commands in it."""
    known = {*SHELLS, "python", "yaml"}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert [block for _, language, block in blocks if language not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_that_a_text_names_are_there(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    for module in set(re.findall(r"python -m ((?:mimic|benchmarks)[\w.]*)", text)):
        assert importlib.util.find_spec(module) is not None, module
    for path in set(re.findall(r"python ((?:docs|benchmarks)/\w+\.py)", text)):
        assert (ROOT / path).is_file(), path
    named = set(re.findall(r"`mimic (\w+)", text))
    assert named <= {command.__name__.rpartition(".")[2] for command in COMMANDS}
    targets = set(re.findall(r"`(?:make|python dev\.py) (\w+)", text))
    assert targets <= set(dev.COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_documents_are_commands(page: Path) -> None:
    for command in commands(page):
        told = io.StringIO()
        code: object = 0
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            try:
                _parsed(shlex.split(command)[1:], "mimic")
            except SystemExit as ended:
                code = ended.code
        assert code == 0, f"{command}: {told.getvalue()}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "settings" / "index.html").is_file()


def test_names_in_tables_may_break_at_their_joints_only_there() -> None:
    pytest.importorskip("mkdocs", reason="needs pip install -e '.[docs]'")
    page = "<p><code>a_b=c</code></p><table><tr><td><code>decode_size=2</code> is b/c</td></tr></table>"
    made = script("site_hooks").on_page_content(page)
    assert made == page.replace("decode_size=2", "decode_<wbr>size=<wbr>2")
