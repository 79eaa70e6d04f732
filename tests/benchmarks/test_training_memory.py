"""The memory that is counted is the memory that lives, and the ways of saving it are seen to save it."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.training_memory import (
    BEGIN,
    END,
    PAGE,
    RESULT,
    LiveMemory,
    compute,
    memory_of_hardware,
    optimiser_bytes,
    processes_of,
    shipped,
    tables,
)
from mimic.training.main import settings_of
from mimic.training.settings import TrainSettings

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


def test_ways_of_saving_memory_are_seen_to_save_it():
    plain = compute(settings(size=64, num_frames=6), 1)["parts"]
    thrifty = compute(settings(size=64, num_frames=6, gradient_checkpointing=True), 1)["parts"]
    assert thrifty["activations"] < 0.3 * plain["activations"]
    walked = compute(settings(lora={"rank": 2, "targets": ["unet.attention"]}, precision="bf16"), 1)
    phases, low_rank = walked["phases"], walked["parts"]
    assert list(phases) == ["load", "encode", "step", "validate", "save", "export"]
    assert phases["save"] < min(phases["encode"], phases["step"], phases["validate"])
    assert phases["step"] == pytest.approx(sum(low_rank.values()))
    # Frozen weights were cast, so that the export builds the whole model in float32 in main memory.
    assert walked["main memory"]["export"] > 1.9 * low_rank["frozen weights"]
    assert low_rank["gradients"] < 0.05 * plain["gradients"]
    # All that was trained is frozen then, in half the bytes; so are the networks that are never trained.
    frozen = plain["trained weights"] + plain["frozen weights"]
    assert low_rank["frozen weights"] == pytest.approx(frozen / 2, rel=0.01)


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


def result_of_the_walk():
    result = json.loads((ROOT / RESULT).read_text(encoding="utf-8"))
    if any("phases" not in row for row in result["settings"].values()):
        pytest.skip("the result is of the former benchmark; run `python -m benchmarks.training_memory`")
    return result


def test_the_walk_of_every_shipped_config_stays_in_nine_tenths_of_the_gpu_that_it_names():
    walked = result_of_the_walk()["settings"]
    assert set(walked) == {path.stem for path in shipped()}
    for path in shipped():
        gpu = memory_of_hardware(ROOT / path)
        assert gpu == walked[path.stem]["gpu"]
        if "mini" not in path.stem:
            assert gpu is not None
            assert max(walked[path.stem]["phases"].values()) <= 0.9 * gpu, path.stem


def test_the_page_on_memory_has_the_tables_of_the_result():
    result = result_of_the_walk()
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert f"{BEGIN}\n{tables(result)}\n{END}" in page


@pytest.mark.slow
def test_the_result_is_that_of_the_config_as_it_stands():
    config = ROOT / "configs/train/mimicmotion_lora_24gb.yaml"
    found = compute(settings_of(config), processes_of(config))["phases"]
    stored = result_of_the_walk()["settings"][config.stem]["phases"]
    assert {name: round(value / 1e9, 3) for name, value in found.items()} == pytest.approx(stored, abs=0.002)


def test_processes_are_those_of_the_shipped_command():
    assert {path.stem: processes_of(path) for path in shipped()} == {
        "mimicmotion_72_frames": 8,
        "mimicmotion_lora_24gb": 1,
        "mimicmotion_mini": 1,
        "mimicmotion_mini_own": 1,
        "mimicmotion_paper": 8,
    }
    assert all(Path(path).is_file() for path in shipped())
