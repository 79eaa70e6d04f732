"""The memory that is counted is the memory that lives, and the ways of saving it are seen to save it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.counted_memory import LiveMemory
from benchmarks.gpu.training import SMALL
from benchmarks.training_memory import (
    compute,
    memory_of_hardware,
    optimiser_bytes,
    processes_of,
    shipped,
    walk,
)
from benchmarks.training_tables import BEGIN, END, PAGE, RESULT, SHARE, tables
from benchmarks.training_walk import settings_of as settings_of_walk
from benchmarks.training_walk import walk as walk_for_real
from mimic.config.loading import ConfigError, read_yaml
from mimic.training.settings import TrainSettings
from tests.mimic.training.small import free_port

ROOT = Path(__file__).parents[2]


def settings(*, size=32, num_frames=4, **changes):
    data = {"source": "synthetic", "height": size, "width": size, "num_frames": num_frames}
    content = {"family": "mimicmotion", "output_dir": "runs", "max_steps": 1, "data": data}
    return TrainSettings.model_validate(content | changes)


def test_storages_count_while_they_live_and_views_do_not():
    x = torch.ones(1000)
    with LiveMemory() as memory:
        y = x * 2
        view = y.view(10, 100)
        z = y + 1
        assert (memory.now, memory.peak) == (8000, 8000)
        del y, z
        assert memory.now == 4000  # the view keeps it
        del view
        assert memory.now == 0
        (x * 3).sum()
    assert memory.peak == 8000


@pytest.mark.slow
def test_ways_of_saving_memory_are_seen_to_save_it():
    plain = compute(settings(size=64, num_frames=6), 1)["parts"]
    thrifty = compute(settings(size=64, num_frames=6, gradient_checkpointing=True), 1)["parts"]
    assert thrifty["activations"] < 0.3 * plain["activations"]
    walked = compute(settings(lora={"rank": 2, "targets": ["unet.attention"]}, precision="bf16"), 1)
    phases, low_rank = walked["phases"], walked["parts"]
    assert list(phases) == ["load", "encode", "step", "validate", "save", "export"]
    assert phases["save"] <= min(phases["encode"], phases["step"], phases["validate"])
    assert phases["step"] == pytest.approx(sum(low_rank.values()))
    # Frozen weights were cast, so that the export builds the whole model in float32 in main memory.
    assert walked["main memory"]["export"] > 1.9 * low_rank["frozen weights"]
    assert low_rank["gradients"] < 0.05 * plain["gradients"]
    # All that was trained is frozen then, in half the bytes; so are the networks that are never trained.
    frozen = plain["trained weights"] + plain["frozen weights"]
    assert low_rank["frozen weights"] == pytest.approx(frozen / 2, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_trained_layer_that_the_loss_does_not_reach_is_named_as_in_training(processes):
    changes = {"family": "animate_anyone", "objective": {"stage": 1}, "trainable": ["reference_unet.*"]}
    with pytest.raises(ConfigError, match=r"the loss does not depend on reference_unet\."):
        compute(settings(size=64, num_frames=1, batch_size=2, **changes), processes)
    compute(
        settings(size=64, num_frames=1, batch_size=2, **changes | {"trainable": ["reference_unet"]}),
        processes,
    )


@pytest.mark.slow
def test_frames_in_portions_save_more():
    changes = {"size": 64, "num_frames": 6, "gradient_checkpointing": True}
    thrifty = compute(settings(**changes), 1)["parts"]
    in_portions = compute(settings(**changes, memory={"chunk_frames": 2}), 1)["parts"]
    assert in_portions["activations"] < 0.6 * thrifty["activations"]


def test_moments_in_a_byte_take_a_quarter():
    weight, bias = torch.empty(100, 100), torch.empty(100)
    eight = settings(optimiser={"name": "adamw_8bit"})
    assert optimiser_bytes(weight, settings()) == 80_000
    assert optimiser_bytes(weight, eight) == pytest.approx(20_000, rel=0.02)
    assert optimiser_bytes(bias, eight) == optimiser_bytes(bias, settings()) == 800


def test_shapes_that_are_remembered_are_those_that_are_computed():
    def run():
        x = torch.ones(2, 3, device="meta", dtype=torch.bfloat16, requires_grad=True)
        y = (x.float() * 2).t().contiguous() + torch.arange(2)  # a tensor of the CPU that is mixed in
        one, other, _ = torch.split(y, 1)
        z = torch.cat([one, other]) * 1
        z.sum().backward()
        return [(t.shape, t.stride(), t.dtype) for t in (y, one, z, x.grad, z > 1, z.max(0).values)]

    with LiveMemory() as memory:
        first, again = run(), run()
    assert first == again
    assert first[0][2] == torch.float32
    assert memory.now == 0


def result_of_the_walk():
    return json.loads((ROOT / RESULT).read_text(encoding="utf-8"))


def test_the_walk_of_every_shipped_config_stays_in_nine_tenths_of_the_hardware_that_it_names():
    walked = result_of_the_walk()["settings"]
    assert set(walked) == {path.stem for path in shipped()}
    for path in shipped():
        device, memory = memory_of_hardware(ROOT / path)
        row = walked[path.stem]
        assert (device, memory) == (row["device"], pytest.approx(row["memory"], abs=1e-3))
        together = processes_of(ROOT / path) if device == "cpu" else 1
        assert together * max(row["phases"].values()) <= SHARE * memory, path.stem


def test_the_page_on_memory_has_the_tables_of_the_result():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert f"{BEGIN}\n{tables(result_of_the_walk())}\n{END}" in page


def stored_and_walked(name):
    return result_of_the_walk()["settings"][name]["phases"], walk(ROOT / f"configs/train/{name}.yaml", [])


def test_the_result_of_a_small_training_is_that_of_its_config_as_it_stands():
    stored, found = stored_and_walked("debug")
    assert found["phases"] == pytest.approx(stored, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in shipped()])
def test_the_result_is_that_of_the_config_as_it_stands(name):
    stored, found = stored_and_walked(name)
    assert found["phases"] == pytest.approx(stored, abs=0.002)


def small_walk(folder):
    config = ROOT / "configs/train/mimicmotion_lora_24gb.yaml"
    return settings_of_walk(config, folder, list(SMALL), processes=1)


@pytest.mark.slow
def test_a_whole_training_is_walked_for_real_with_small_networks(tmp_path):
    found = walk_for_real(small_walk(tmp_path))
    assert list(found["phases"]) == [
        "load and encode", "step", "save, until the training continues", "save, until it is whole",
        "validate", "export",
    ]  # fmt: skip
    assert all(loss > 0 for loss in found["losses"])
    assert found["validation"]["figures"]["psnr"] > 0
    assert (tmp_path / "run" / "final" / "lora.safetensors").is_file()
    assert (tmp_path / "run" / "checkpoint-2" / "facts.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_it_is_walked_under_launchers(tmp_path, engine):
    environment = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if engine == "fsdp2" else {}
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    config = "configs/train/mimicmotion_lora_24gb.yaml"
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.training_walk", config, "--out", str(tmp_path), *SMALL],
        check=False, env=os.environ | environment | {"OMP_NUM_THREADS": "1"}, cwd=ROOT,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["processes"] == 2
    assert len(found["phases"]) == 6
    assert found["validation"]["figures"]["psnr"] > 0


def test_processes_are_those_of_the_shipped_command():
    found = {path.stem: processes_of(path) for path in shipped()}
    assert {name: number for name, number in found.items() if number > 1} == {
        "animate_anyone_stage1": 8,
        "animate_anyone_stage2": 4,
        "magic_animate_stage1": 8,
        "magic_animate_stage2": 8,
        "mimicmotion_72_frames": 8,
        "mimicmotion_paper": 8,
        "mini": 2,
    }
    left_out = {path.stem for path in (ROOT / "configs/train").glob("*.yaml")} - found.keys()
    assert {read_yaml(ROOT / f"configs/train/{name}.yaml", [])["trainer"] for name in left_out} == {
        "mini_vae"
    }
