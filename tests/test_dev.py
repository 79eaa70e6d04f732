"""dev.py does what make does, and continuous integration on a forge runs what .ci/run runs."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

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


def test_the_site_is_built_strictly_by_what_one_installation_brings(monkeypatch):
    ran = []
    monkeypatch.setattr(dev, "shown", lambda *command, **_: ran.append([str(each) for each in command]) or 0)
    assert dev.site(Path("bin"), []) == 0
    (command,) = ran
    assert command[1:3] == ["build", "--strict"]
    assert "make site" in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert dev.EXTRAS == ".[dev,docs]"
    pages = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert pages["theme"]["font"] is False, "nothing is fetched while it is built or read"


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TOP_KEYS = {"name", "on", "permissions", "env", "defaults", "concurrency", "jobs", "run-name"}
JOB_KEYS = {"name", "needs", "if", "runs-on", "permissions", "env", "strategy", "timeout-minutes", "steps",
            "continue-on-error", "defaults", "concurrency", "container", "services", "outputs"}  # fmt: skip
STEP_KEYS = {"id", "if", "name", "uses", "run", "with", "env", "shell", "working-directory",
             "continue-on-error", "timeout-minutes"}  # fmt: skip
EVENTS = {"push", "pull_request", "workflow_dispatch", "schedule", "release"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_of_the_forge_have_no_mistakes_that_only_a_push_would_show(path):
    """Unknown keys, values that are not there, jobs without an end; as linters of workflows look for."""
    text = path.read_text(encoding="utf-8")
    workflow = yaml.load(text, UniqueKeys)
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads `on` as a truth
    assert workflow.keys() <= TOP_KEYS
    assert workflow["on"].keys() <= EVENTS
    assert workflow["permissions"] == {"contents": "read"}, "no job writes anything"
    for name, job in workflow["jobs"].items():
        assert re.fullmatch(r"[A-Za-z_][\w-]*", name)
        assert job.keys() <= JOB_KEYS, name
        assert 0 < job["timeout-minutes"] <= 360, name
        matrix = job.get("strategy", {}).get("matrix", {})
        runners = matrix["system"] if "matrix" in job["runs-on"] else [job["runs-on"]]
        assert all(re.fullmatch(r"(ubuntu|windows|macos)-(latest|[\d.]+)", runner) for runner in runners)
        for step in job["steps"]:
            assert step.keys() <= STEP_KEYS, (name, step)
            assert ("uses" in step) != ("run" in step), (name, step)
            assert "with" not in step or "uses" in step, (name, step)
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@v?[\w.]+", step.get("uses", "a/b@v1")), (name, step)
        assert job["steps"][0]["uses"].startswith("actions/checkout@"), name
        for expression in re.findall(r"\$\{\{(.*?)\}\}", str(job)):
            context, _, value = expression.strip().partition(".")
            assert context in ("matrix", "runner", "github", "env"), expression
            assert context != "matrix" or value in matrix, expression
        versions = [step["with"]["python-version"] for step in job["steps"] if "python-version" in str(step)]
        assert all(isinstance(version, str) for version in (*versions, *matrix.get("python", []))), (
            "3.10 without quotes is 3.1"
        )


class UniqueKeys(yaml.SafeLoader):
    """YAML of which no mapping has a key twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a key is there twice"
        return super().construct_mapping(node, deep)


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
        name, _, least = line.partition(";")[0].partition(",")[0].partition("==")
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
        if pin is None or re.search(r"python_(full_)?version", line):
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


def test_the_script_needs_the_standard_library_alone():
    tree = ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("system", "machine", "is_there"),
    [("win32", "AMD64", True), ("linux", "x86_64", True), ("darwin", "arm64", False)],
)
def test_bitsandbytes_is_installed_where_it_has_wheels(system, machine, is_there):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = Requirement(re.search(r'"(bitsandbytes>=[^"]+)"', text)[1])
    assert found.marker.evaluate({"sys_platform": system, "platform_machine": machine}) == is_there
