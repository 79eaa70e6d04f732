"""dev.py does what make does, and continuous integration on a forge runs what .ci/run runs."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import dev

ROOT = Path(__file__).parents[1]
CHECKS = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))


def test_make_hands_each_target_to_the_script():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert set(targets) == set(dev.COMMANDS) - {"lock"}
    assert "$(PYTHON) dev.py $@ $(ARGS)" in text


def test_the_forge_runs_what_ci_runs():
    ours = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    steps = [step.get("run", "") for step in CHECKS["jobs"]["checks"]["steps"]]
    assert [line.removeprefix("python dev.py ") for line in steps if line] == ours
    matrix = CHECKS["jobs"]["checks"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "windows", "macos"}
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert matrix["python"][0] == lowest == ".".join(map(str, dev.OLDEST_PYTHON))
    assert set(CHECKS["jobs"]["bounds"]["strategy"]["matrix"]["versions"]) == set(dev.SETS)
    assert CHECKS["jobs"]["site"]["steps"][-1] == {"run": "mkdocs build --strict"}


def test_the_minima_are_the_lower_bounds_and_torch_keeps_its_version():
    minima = dict(line.partition(";")[0].split("==") for line in dev.minima())
    assert minima["diffusers"] == "0.37"
    assert minima["transformers"] == "4.57.1"
    assert minima["accelerate"] == "1.6"
    assert minima["huggingface_hub"] == "0.34"
    assert "torch" not in minima


def test_installed_versions_are_within_the_bounds():
    """Of this environment, whichever it is: `test --oldest` runs this as well."""
    for line in dev.minima():
        name, _, least = line.partition(";")[0].partition("==")
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra, or for other systems
        parts = [[int(n) for n in re.findall(r"\d+", version)[:3]] for version in (found, least)]
        assert parts[0] >= parts[1], f"{name} {found} is below {least}"


def test_torch_has_what_its_lower_bound_promises():
    """Names that torch 2.6 has and earlier versions lack, as far as this package uses them."""
    from torch.distributed.tensor import DTensor
    from torch.nn.attention import sdpa_kernel

    assert DTensor
    assert sdpa_kernel


def test_the_lock_file_has_every_pin_of_the_tested_set_with_hashes():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", lock, re.MULTILINE))
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        pin = re.match(r"([A-Za-z0-9_.-]+)==([^ ;]+)", line)
        if pin is None or "python_version" in line:
            continue
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        assert name not in locked or locked[name] == pin[2], f"{name}: run `python dev.py lock`"
    entries = re.split(r"^(?=[a-z0-9-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(entries) > 80
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_an_unknown_command_shows_those_there_are(arguments):
    command = [sys.executable, "dev.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "python dev.py test" in done.stderr


def test_what_a_terminal_cannot_show_is_no_error():
    script = "import dev; dev.main([]); print(chr(0x2026), chr(0x821E))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "cp850"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"2026" in done.stdout


def test_an_old_python_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(dev.SetupError, match=r"needs Python 3\.10 or later.*\n.*PYTHON=python3\.12"):
        dev.install()


def test_programs_are_found_on_windows_too(monkeypatch):
    assert dev.program(Path("bin"), "ruff") == Path("bin", "ruff.exe" if os.name == "nt" else "ruff")
    monkeypatch.setattr(dev, "IS_WINDOWS", True)
    assert dev.program(Path("Scripts"), "ruff").name == "ruff.exe"
