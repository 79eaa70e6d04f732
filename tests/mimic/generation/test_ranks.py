"""Several processes render one clip to the bytes of one process; a dead one ends the run, nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dancers import Stage
from tests.mimic.generation.test_killed import write_config


def launch(config: Path, folder: Path, num_processes: int) -> subprocess.Popen[str]:
    command = ["-m", "mimic", "infer", "--config", str(config), "--output-dir", str(folder)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return subprocess.Popen(
        [sys.executable, *(launcher if num_processes > 1 else []), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def config(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"), "mimicmotion", stage, stage.driving)


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("alone")
    process = launch(config, folder, 1)
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0, said
    return (folder / "a.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_processes", [2, 4])
def test_several_processes_write_the_bytes_of_one(
    config: Path, alone: bytes, tmp_path: Path, num_processes: int
) -> None:
    process = launch(config, tmp_path / "out", num_processes)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert said.count("animating") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.mp4"]
    assert (tmp_path / "out" / "a.mp4").read_bytes() == alone


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes by /proc")
def test_a_dead_process_ends_the_run_and_what_is_done_is_kept(
    config: Path, alone: bytes, tmp_path: Path
) -> None:
    process = launch(config, tmp_path / "out", 2)
    while not list(tmp_path.glob("out/*.unfinished/*/denoising.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    (second,) = [pid for pid in children(process.pid) if "RANK=1" in environment(pid)]
    os.kill(second, signal.SIGKILL)
    said, _ = process.communicate(timeout=280)
    assert process.returncode != 0
    assert re.search(r"denoising step \d of 8 saved in", said), said
    assert list(tmp_path.glob("out/*.unfinished/*/denoising.safetensors"))
    process = launch(config, tmp_path / "out", 1)
    said, _ = process.communicate(timeout=280)
    assert "continuing an interrupted run" in said
    assert (tmp_path / "out" / "a.mp4").read_bytes() == alone


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")
