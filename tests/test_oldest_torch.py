"""Does the oldest torch that `pyproject.toml` allows have all the names that the project uses?

`python dev.py test --oldest` keeps torch at the tested version, because old ones have no build for new
versions of Python. What a release has is read off its sources instead, in the wheel for Apple silicon, the
smallest one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUND_LATER = {"torch._dynamo.config.patch"}
"""Names that no source text shows: `install_config_module` gives them to the module."""
WHEEL = ("--platform", "macosx_11_0_arm64", "--python-version", "3.11", "--only-binary=:all:", "--no-deps")


class Sources:
    """The Python files of a wheel of torch."""

    def __init__(self, wheel: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)
        self._names = set(self._archive.namelist())

    def has(self, dotted: str) -> bool:
        """Whether a module has a name, or one of its stubs declares it."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            path = "/".join(parts[:length])
            files = [
                name for name in (f"{path}.py", f"{path}/__init__.py", f"{path}.pyi") if name in self._names
            ]
            if not files:
                continue
            if length == len(parts):
                return True
            if length == 1:
                files += [f"torch/_C/{name}.pyi" for name in ("__init__", "_VariableFunctions", "_nn")]
            elif any("import *" in self._text(name) for name in files):
                files += [
                    name for name in self._names if name.startswith(f"{path}/") and name.endswith(".py")
                ]
            words = re.compile(rf"\b{re.escape(parts[length])}\b")
            return any(words.search(self._text(name)) for name in files)
        return False

    @cache  # noqa: B019 - one object for one test
    def _text(self, name: str) -> str:
        return self._archive.read(name).decode()


def torch_names(path: Path) -> Iterator[str]:
    """Dotted names of torch that a file imports or reads: ``torch.distributed.tensor.DTensor``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {"torch": "torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "torch":
                    yield name.name
                    if name.asname:
                        aliases[name.asname] = name.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for name in node.names:
                dotted = f"{node.module}.{name.name}"
                yield dotted
                if name.name[0].islower():
                    aliases[name.asname or name.name] = dotted
    for node in ast.walk(tree):
        attributes: list[str] = []
        inner: ast.expr | None = node if isinstance(node, ast.Attribute) else None
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in aliases:
            yield ".".join([aliases[inner.id], *attributes])


def test_names_are_found_where_they_are_imported_or_read(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom torch.fx import Graph\nnn.init.zeros_(torch.ones(1).T)\n"
    )
    assert set(torch_names(path)) == {
        "torch", "torch.nn", "torch.fx.Graph", "torch.nn.init.zeros_", "torch.nn.init", "torch.ones",
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "torch.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", "")
        wheel.writestr("torch/nn/__init__.py", "from torch.nn import init")
        wheel.writestr("torch/nn/init.py", "def zeros_(tensor): ...")
        for name in ("__init__", "_VariableFunctions", "_nn"):
            wheel.writestr(f"torch/_C/{name}.pyi", "def ones(size): ...")
    sources = Sources(tmp_path / "torch.whl")
    assert {name for name in torch_names(path) if not sources.has(name)} == {"torch.fx.Graph"}


@pytest.mark.slow
def test_the_oldest_torch_has_every_name_that_is_used(tmp_path):
    """Fetches a wheel of some 70 MB."""
    oldest = re.search(r'"torch>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert oldest is not None
    version = oldest[1] + ".0" * (2 - oldest[1].count("."))
    command = [sys.executable, "-m", "pip", "download", "--quiet", f"torch=={version}", *WHEEL]
    subprocess.run([*command, "--dest", str(tmp_path)], check=True)
    sources = Sources(next(tmp_path.glob("torch-*.whl")))
    used = {
        name
        for folder in ("mimic", "pose")
        for path in (ROOT / folder).rglob("*.py")
        for name in torch_names(path)
    }
    assert len(used) > 100
    assert {name for name in used if not sources.has(name)} <= BOUND_LATER
