"""Other people's programs in a comparison: finished videos, and commands that make them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mimic.compare.external import check_external, ended_with_us
from mimic.compare.inputs import CompareError
from mimic.compare.run import compare
from mimic.compare.settings import CompareConfig
from mimic.config import ConfigError
from mimic.config.loading import build
from tests.mimic.training.test_workers import is_running

COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2]); print(sys.argv[3:])"
ROOT = Path(__file__).parents[3]
NUM_FRAMES = 5


def config(output: Path, variants: list[dict[str, Any]], **changes: Any) -> CompareConfig:
    content = {
        "output_dir": str(output),
        "clips": {"num_clips": 2, "num_frames": NUM_FRAMES},
        "seeds": [0, 1],
        "device": "cpu",
        "common": {"height": 32, "width": 32},
        "variants": variants,
    }
    return build(CompareConfig, {**content, **changes})


def copying(tmp_path: Path, arguments: str = "{seed} {num_frames} {fps} {height} {width}") -> dict[str, str]:
    """A program that dances perfectly: it copies the true movement."""
    script = tmp_path / "a program.py"
    script.write_text(COPY)
    return {"name": "copy", "command": f"python '{script}' {{driving}} {{output}} {arguments}"}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_command_is_run_for_each_cell_and_timed(tmp_path: Path) -> None:
    outcome = compare(config(tmp_path / "with space", [copying(tmp_path)]))
    assert (outcome.num_made, outcome.failures) == (4, ())
    for row in rows(tmp_path / "with space"):
        assert row["metrics"]["l1"] < 0.02
        assert row["seconds"] > 0
        assert row["model"]["pipeline"] == "command"
    assert "copy" in outcome.report.read_text(encoding="utf-8")


def test_a_command_that_changed_is_run_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    variants = [copying(tmp_path)]
    compare(config(tmp_path / "out", variants))
    assert compare(config(tmp_path / "out", variants)).num_kept == 4
    (tmp_path / "a program.py").write_text(COPY + "  # better")
    assert compare(config(tmp_path / "out", variants)).num_made == 4


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; print('no GPU'); sys.exit(3)", "ended with exit code 3: no GPU"),
        ("print('done')", "ended well and wrote no"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "copy, dancer_000, seed 0: "),
    ],
)
def test_a_program_that_fails_is_one_line_of_its_cell(tmp_path: Path, code: str, told: str) -> None:
    variant = copying(tmp_path)
    (tmp_path / "a program.py").write_text(code)
    outcome = compare(config(tmp_path / "out", [variant]))
    assert len(outcome.failures) == 4
    assert told in outcome.failures[0]
    assert "\n" not in outcome.failures[0]


def test_finished_videos_of_any_program_are_measured_once_a_clip(tmp_path: Path) -> None:
    made = compare(config(tmp_path / "first", [copying(tmp_path)], seeds=[0]))
    videos = tmp_path / "videos"
    videos.mkdir()
    cells = tmp_path / "first" / "cells" / "copy"
    shutil.copy(cells / "dancer_000" / "seed_0" / "dancer_000.mp4", videos / "dancer_000.mp4")
    shutil.copytree(tmp_path / "first" / "clips" / "dancer_001" / "truth", videos / "dancer_001")
    assert made.failures == ()
    outcome = compare(config(tmp_path / "out", [{"name": "theirs", "videos": str(videos)}]))
    assert (outcome.num_made, outcome.failures) == (2, ())
    assert all(row["metrics"]["l1"] < 0.02 and row["seconds"] is None for row in rows(tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").is_file()


def test_videos_that_do_not_fit_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    theirs = {"name": "theirs", "videos": str(videos)}
    truth = tmp_path / "clips" / "clips" / "dancer_000" / "truth"
    compare(config(tmp_path / "clips", [copying(tmp_path)], clips={"num_clips": 1, "num_frames": 3}))
    shutil.copytree(truth, videos / "dancer_000")
    with pytest.raises(CompareError, match="has 3 frames; the comparison measures 5"):
        compare(config(tmp_path / "out", [theirs]))
    with pytest.raises(CompareError, match="has no video of the clip dancer_001"):
        compare(config(tmp_path / "out", [theirs], clips={"num_clips": 2, "num_frames": 3}))
    assert not (tmp_path / "out" / "cells").exists()


def test_a_placeholder_may_say_how_it_is_written(tmp_path: Path) -> None:
    check_external(config(tmp_path, [copying(tmp_path, "{seed:04d} {reference.name}")]).variants, {})


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ({}, "has no source; give one of model, videos and command"),
        ({"model": "m", "videos": "v"}, "has model and videos; give one"),
        ({"command": "python x.py"}, "lacks {output}"),
        ({"videos": "v", "settings": {"fusion": "none"}}, "settings of variant a belong to a model"),
    ],
)
def test_a_variant_has_one_source(tmp_path: Path, variant: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config(tmp_path, [{"name": "a", **variant}])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program {output}", "there is no program no-such-program"),
        (f"'{sys.executable}' {{out}} {{output}}", "unknown placeholder 'out'; known: {reference}"),
        (f"'{sys.executable}' {{reference.x}} {{output}}", "wrong placeholder: .*no attribute 'x'; known: "),
        (f"'{sys.executable}' {{reference:d}} {{output}}", "wrong placeholder: .*unsupported format string"),
        (f"'{sys.executable}' {{seed.x}} {{}} {{output}}", "wrong placeholder: "),
    ],
)
def test_a_command_that_cannot_run_is_refused_before_anything_is_made(
    tmp_path: Path, command: str, told: str
) -> None:
    with pytest.raises(CompareError, match=told):
        compare(config(tmp_path / "out", [{"name": "a", "command": command}]))
    assert not (tmp_path / "out" / "cells").exists()


KILLED = "import sys; from mimic.compare.external import ended_with_us; ended_with_us(sys.argv[1:])"
SLEEPER = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_a_program_ends_with_the_comparison_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, sys.executable, "-c", SLEEPER],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    end, pid = time.monotonic() + 60, tmp_path / "pid"
    while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    program = int(pid.read_text())
    process.kill()
    process.wait()
    while is_running(program) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(program)


def test_a_program_ends_with_an_interrupted_comparison(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(self: Any, *given: Any, **named: Any) -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ended_with_us([sys.executable, "-c", SLEEPER])
    assert time.monotonic() - start < 30
