#!/usr/bin/env python3
"""What `make` does, on every system: set up the environment, then run the demonstration, tests or linters.

    python dev.py demo      install (the first time) and make the bundled character dance
    python dev.py test      the tests (those marked slow, gpu or browser left out)
    python dev.py browser   the tests of the studio and the reports in Chromium (apt-get install chromium)
    python dev.py lint      ruff, mypy, import-linter
    python dev.py site      the documentation, with its links checked: build/site/index.html
    python dev.py bench     speed on this CPU, the released way beside ours (at most 10 minutes)
    python dev.py compare   models side by side on rendered dancers
    python dev.py ablation  what each idea brings, by small trainings (an hour; resumes where it stopped)
    python dev.py install   the environment alone
    python dev.py lock      write requirements.lock: the tested set with hashes, for every system and Python

Further arguments go to the command (`python dev.py demo seed=3`). `test --oldest` runs the tests in an
environment of exactly the lower bounds of pyproject.toml (torch stays at the tested version), `test --newest`
with the newest release of everything; each has its own folder beside .venv. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 10)
SETS = {"--oldest": ".venv-oldest", "--newest": ".venv-newest"}
EXTRAS = ".[dev,docs]"
EXTRAS_OF_SETS = ".[dev]"
IS_WINDOWS = os.name == "nt"
# Of all that pip says: what it is fetching and putting in place.
_FETCHED = re.compile(r"^ *(?:Downloading|Using cached) ([^ ]+)( \(.*\))?")
_MINIMUM = re.compile(r"^([A-Za-z0-9_.-]+)>=([0-9][0-9a-z.]*)(.*)$")


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show is replaced, not an error
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    command, *rest = arguments
    chosen = next((name for name in rest if name in SETS), None) if command == "test" else None
    rest = [each for each in rest if each != chosen]
    try:
        binaries = install(chosen)
        return COMMANDS[command](binaries, rest)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def install(chosen: str | None = None) -> Path:
    """Make the environment unless it is there and up to date; returns the folder of its programs."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"mimic needs Python 3.10 or later; here {sys.executable} is {sys.version.split()[0]}.\n"
            "Install a later one, or name it: make demo PYTHON=python3.12 (or: python3.12 dev.py demo)"
        )
    folder = ROOT / (SETS[chosen] if chosen else ".venv")
    binaries = folder / ("Scripts" if IS_WINDOWS else "bin")
    python, stamp = program(binaries, "python"), folder / ".installed"
    made_from = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    if stamp.exists() and all(path.stat().st_mtime <= stamp.stat().st_mtime for path in made_from):
        return binaries
    if not python.exists():
        print(f"making {folder.name}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False).returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"{sys.executable} cannot make a virtual environment; on Debian: apt install python3-venv"
            )
    bounds = bounds_of(chosen)
    print("installing torch (the largest part; minutes on the first time)", flush=True)
    pip(python, *bounds, "torch")
    print("installing mimic and the rest", flush=True)
    pip(python, *bounds, *(["--upgrade", "--upgrade-strategy", "eager"] if chosen == "--newest" else []),
        "-e", EXTRAS if chosen is None else EXTRAS_OF_SETS)  # fmt: skip
    stamp.touch()
    return binaries


def bounds_of(chosen: str | None) -> list[str]:
    """pip's arguments that bound the versions of a set of packages."""
    if chosen is None:
        return ["-c", "constraints.txt"]
    bounds = ROOT / SETS[chosen] / "bounds.txt"
    torch = [line for line in lines_of("constraints.txt") if line.startswith("torch==")]
    bounds.write_text("\n".join(torch + (minima() if chosen == "--oldest" else [])) + "\n", encoding="utf-8")
    return ["-c", str(bounds)]


def minima() -> list[str]:
    """The lower bounds in pyproject.toml as exact versions; torch is left out."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = (
        _MINIMUM.match(quoted) for quoted in re.findall(r'"([^"\n]+)"', text.split("[project.scripts]")[0])
    )
    return sorted({f"{m[1]}=={m[2]}{m[3]}" for m in found if m and m[1] not in ("torch", "hatchling")})


def lines_of(name: str) -> list[str]:
    """Lines of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def pip(python: Path, *arguments: str) -> None:
    """Install with pip, and show what it fetches, but for small files."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            fetched = _FETCHED.match(line)
            if fetched and "kB" not in (fetched[2] or ""):
                print(f"    {fetched[1]}{fetched[2] or ''}", flush=True)
            elif line.startswith("Installing collected packages"):
                print("    installing …", flush=True)
    if process.returncode:
        raise SetupError(f"pip failed: {' '.join(command)}")


def program(binaries: Path, name: str) -> Path:
    """A program of the environment."""
    return binaries / (f"{name}.exe" if IS_WINDOWS else name)


def run(*command: str | Path, **environment: str) -> int:
    """Run a program in the project's folder; returns its exit code."""
    done = subprocess.run(
        [str(each) for each in command], cwd=ROOT, env=os.environ | environment, check=False
    )
    return done.returncode


def shown(*command: str | Path, **environment: str) -> int:
    """Print a command, then run it."""
    print(" ".join(str(each) for each in command), flush=True)
    return run(*command, **environment)


def demo(binaries: Path, rest: list[str]) -> int:
    return run(program(binaries, "mimic"), "demo", *rest)


def test(binaries: Path, rest: list[str]) -> int:
    """One process for each processor, at most 8, with one thread each; the tests of a file stay together."""
    num_processes = str(min(os.cpu_count() or 1, 8))
    return shown(
        program(binaries, "python"), "-m", "pytest", "-q", "-n", num_processes, "--dist", "loadfile",
        "-m", "not slow and not gpu and not browser", *rest, OMP_NUM_THREADS="1",
    )  # fmt: skip


def browser(binaries: Path, rest: list[str]) -> int:
    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)):
        print(f"no Chromium here ({', '.join(names)}); on Debian: apt-get install chromium", file=sys.stderr)
        return 1
    return shown(program(binaries, "python"), "-m", "pytest", "-q", "-m", "browser", *rest)


def lint(binaries: Path, rest: list[str]) -> int:
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"])
    for name, *arguments in checks:
        code = shown(program(binaries, name), *arguments, *rest)
        if code:
            return code
    return 0


def site(binaries: Path, rest: list[str]) -> int:
    """Fetches nothing: what the pages need is in docs or comes with the theme."""
    return shown(program(binaries, "mkdocs"), "build", "--strict", "--quiet", *rest, NO_MKDOCS_2_WARNING="1")


def bench(binaries: Path, rest: list[str]) -> int:
    return run(program(binaries, "python"), "-m", "benchmarks.speed", *rest)


def ablation(binaries: Path, rest: list[str]) -> int:
    python = program(binaries, "python")
    return shown(python, "-m", "benchmarks.ablation", *rest, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")


def compare(binaries: Path, rest: list[str]) -> int:
    return run(program(binaries, "mimic"), "compare", "--config", "configs/compare/synthetic.yaml", *rest)


def nothing(binaries: Path, rest: list[str]) -> int:
    return 0


def lock(binaries: Path, rest: list[str]) -> int:
    """Write requirements.lock with uv: the tested set with hashes, for every system and Python."""
    pip(program(binaries, "python"), "uv")
    return run(
        program(binaries, "uv"), "pip", "compile", "pyproject.toml", "--extra", "dev", "--extra", "train",
        "--extra", "docs",
        "--universal", "--python-version", ".".join(map(str, OLDEST_PYTHON)), "--generate-hashes",
        "--constraints", "constraints.txt", "--custom-compile-command", "python dev.py lock", "--quiet",
        "--output-file", "requirements.lock", *rest,
    )  # fmt: skip


COMMANDS = {
    "demo": demo, "test": test, "browser": browser, "lint": lint, "site": site, "bench": bench,
    "compare": compare, "ablation": ablation, "install": nothing, "lock": lock,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
