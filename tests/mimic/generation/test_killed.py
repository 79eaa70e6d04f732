"""A killed `mimic infer`, started again with the same command, ends in the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimic.families.registry import FAMILIES
from tests.dancers import Stage

NUM_KILLS = 10


def write_config(folder: Path, family: str, stage: Stage, driving: Path) -> Path:
    pipeline = FAMILIES[family].tiny_pipeline(height=32, width=32, seed=0)
    pipeline.generation_defaults["canvas_short_side"] = 256
    pipeline.save_pretrained(folder / "model")
    config = {
        "base_model_path": str(folder / "model"), "device": "cpu", "estimator": "blazepose", "height": 32,
        "width": 32, "sample_stride": 1, "align": "robust", "num_inference_steps": 8, "tile_size": 4,
        "tile_overlap": 1, "guidance_scale": 1.5, "decode_chunk_size": 2,
        "test_case": [
            {"name": "a", "ref_image_path": str(stage.reference), "ref_video_path": str(driving)}
        ],
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class Command:
    """`mimic infer` as a process; `begun` is set when it begins to render."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mimic", "infer", "--config", str(config), "--output-dir", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.begun, self.lines = threading.Event(), []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "animating" in line:
                self.begun.set()
        self.begun.set()

    def end(self) -> tuple[int, str]:
        code = self.process.wait(timeout=240)
        self._reader.join()
        return code, "".join(self.lines)


@pytest.fixture(scope="module")
def part_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mimic.dancers.write import synth

    folder = tmp_path_factory.mktemp("scene")
    synth(folder, num_clips=1, seconds=1, fps=8, height=64, width=64, densepose=True)
    return folder / "clip_0000.densepose.mp4"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    family: str, stage: Stage, part_maps: Path, tmp_path: Path
) -> None:
    driving = part_maps if family == "magic_animate" else stage.driving
    config = write_config(tmp_path, family, stage, driving)
    command = Command(config, tmp_path / "undisturbed")
    command.begun.wait()
    start = time.perf_counter()
    code, said = command.end()
    assert code == 0, said
    seconds = time.perf_counter() - start

    moments, num_kills, resumed = random.Random(0), 0, []
    while True:
        command = Command(config, tmp_path / "killed")
        command.begun.wait()
        time.sleep(moments.uniform(0, 0.9 * seconds))
        if num_kills < NUM_KILLS and command.process.poll() is None:
            command.process.kill()
            num_kills += 1
        code, said = command.end()
        resumed += [line for line in said.splitlines() if "continuing an interrupted run" in line]
        if code == 0 and num_kills == NUM_KILLS:
            break
        if code == 0:  # it was faster than the kill
            for path in (tmp_path / "killed").iterdir():
                path.unlink()
        assert code in (0, -signal.SIGKILL), said
    assert resumed, "no run found anything that was saved"
    names = sorted(path.name for path in (tmp_path / "undisturbed").iterdir())
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names == ["a.json", "a.mp4"]
    assert (tmp_path / "killed" / "a.mp4").read_bytes() == (tmp_path / "undisturbed" / "a.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_asked_to_end_it_says_what_is_kept(name: str, stage: Stage, tmp_path: Path) -> None:
    driving = stage.driving_poses.save(tmp_path / "moves.npz")
    config = write_config(tmp_path, "mimicmotion", stage, driving)
    command = Command(config, tmp_path / "out")
    command.begun.wait()
    while not list(tmp_path.glob("out/*.unfinished/*/denoising.safetensors")):
        assert command.process.poll() is None, command.end()[1]
        time.sleep(0.01)
    command.process.send_signal(getattr(signal, name))
    code, said = command.end()
    assert code == {"SIGTERM": 143, "SIGINT": 130}[name]
    assert "saved in" in said
    assert "the same command continues from there" in said
    code, said = Command(config, tmp_path / "out").end()
    assert (code, "continuing an interrupted run" in said) == (0, True)
    report: dict[str, Any] = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["resumed"]
