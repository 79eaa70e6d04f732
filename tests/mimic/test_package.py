"""What is published: types, licences, extras and size of the wheel."""

import ast
import json
import re
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from mimic.files import ASSETS
from mimic.miniature.share import equal_files, note_of, weights_of_bundled_models
from mimic.weights.sources import SHARED_FILE

tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, WHEEL = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
MAX_WHEEL_BYTES = 60_000_000
MODULES = {  # packages that are imported under another name
    "opencv-python-headless": "cv2", "pillow": "PIL", "onnxruntime-gpu": "onnxruntime",
}  # fmt: skip


def files_of_the_wheel() -> list[Path]:
    folders = (ROOT / "mimic", ROOT / "pose", ROOT / "configs")
    left_out = {ROOT / name.lstrip("/") for name in WHEEL["exclude"]}
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if "__pycache__" not in path.parts and path not in left_out]


@pytest.mark.slow
def test_the_wheel_stays_below_its_bound() -> None:
    def deflated(path: Path) -> int:
        return len(zlib.compress(path.read_bytes(), 6))

    with ThreadPoolExecutor() as pool:
        num_bytes = sum(pool.map(deflated, files_of_the_wheel()))
    assert num_bytes < MAX_WHEEL_BYTES, f"the wheel has {num_bytes / 1e6:.1f} MB"


def test_the_wheel_leaves_out_weights_that_are_equal_to_those_of_another_miniature() -> None:
    equal = equal_files(weights_of_bundled_models())
    names = [f"/mimic/assets/{path.relative_to(ASSETS).as_posix()}" for path in equal]
    assert names == WHEEL["exclude"], "run python -m mimic.miniature.share"
    notes = {path.with_name(SHARED_FILE): note_of(other) for path, other in equal.items()}
    assert {note: json.loads(note.read_text()) for note in ASSETS.rglob(SHARED_FILE)} == notes


def test_only_networks_are_large() -> None:
    kinds = {".safetensors", ".onnx"}
    others = {path: path.stat().st_size for path in files_of_the_wheel() if path.suffix not in kinds}
    assert max(others.values()) < 1_500_000, max(others, key=lambda path: others[path])


def test_packages_are_typed_and_licences_are_there() -> None:
    assert (ROOT / "mimic" / "py.typed").is_file()
    assert (ROOT / "pose" / "py.typed").is_file()
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_what_pypi_shows_has_absolute_links_and_says_what_the_readme_says() -> None:
    shown = (ROOT / PROJECT["readme"]).read_text(encoding="utf-8")
    assert re.findall(r"\]\(([^)]+)\)", shown)
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]+)\)", shown))
    honest = "the gated weights themselves have not been run"
    for text in (shown, (ROOT / "README.md").read_text(encoding="utf-8")):
        assert honest in " ".join(text.split())
    assert all(link.startswith("https://") for link in PROJECT["urls"].values())


def test_extras_are_asked_for_under_the_name_of_the_package() -> None:
    """`mimic` on PyPI is somebody else's."""
    name, extras = PROJECT["name"], set(PROJECT["optional-dependencies"])
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "integrations").rglob("*.md")]
    sources = [path for folder in ("mimic", "pose", "integrations") for path in (ROOT / folder).rglob("*.py")]
    for path in pages + sources:
        for package, extra in re.findall(
            r"([\w-]*mimic[\w-]*)\[([a-z]+)\]", path.read_text(encoding="utf-8")
        ):
            assert package == name, path
            assert extra in extras, path
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert [extra for extra in extras if f"`{name}[{extra}]`" not in install] == []


def test_every_declared_package_is_imported() -> None:
    imported = {
        module.partition(".")[0]
        for folder in ("mimic", "pose")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in _modules(node)
    }
    declared = {re.split(r"[<>=; ]", line)[0] for line in PROJECT["dependencies"]}
    # accelerate is what diffusers and the launcher need; the others are imported by name.
    unused = {name for name in declared if MODULES.get(name, name.replace("-", "_")) not in imported}
    assert not unused


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_systems_and_pythons_that_the_guide_names_are_those_of_the_classifiers_and_of_the_forge() -> None:
    checks = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    matrix = checks["jobs"]["checks"]["strategy"]["matrix"]
    systems = {"ubuntu": "POSIX :: Linux", "windows": "Microsoft :: Windows", "macos": "MacOS"}
    given = set(PROJECT["classifiers"])
    for system in matrix["system"]:
        assert f"Operating System :: {systems[system.split('-')[0]]}" in given
    oldest, newest = (int(version.partition(".")[2]) for version in matrix["python"])
    for minor in range(oldest, newest + 1):
        assert f"Programming Language :: Python :: 3.{minor}" in given


def test_the_citation_has_the_version_and_the_issue_forms_can_be_read() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys()


def test_loading_a_model_in_a_fresh_process_prints_nothing_of_the_libraries() -> None:
    script = "import mimic; mimic.load_pipeline('bundled:mini', device='cpu')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
