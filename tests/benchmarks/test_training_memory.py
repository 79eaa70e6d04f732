"""The memory that is counted is the memory that lives, and the ways of saving it are seen to save it."""

from pathlib import Path

import pytest
import torch

from benchmarks.training_memory import LiveMemory, compute, optimiser_bytes, processes_of, shipped
from mimic.training.settings import TrainSettings


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
    plain = compute(settings(size=64, num_frames=6), 1)
    thrifty = compute(settings(size=64, num_frames=6, gradient_checkpointing=True), 1)
    assert thrifty["activations at the peak"] < 0.3 * plain["activations at the peak"]
    low_rank = compute(settings(lora={"rank": 2, "targets": ["unet.attention"]}, precision="bf16"), 1)
    assert low_rank["gradients"] < 0.05 * plain["gradients"]
    # All that was trained is frozen then, in half the bytes; so are the networks that are never trained.
    frozen = plain["trained weights"] + plain["frozen weights"]
    assert low_rank["frozen weights"] == pytest.approx(frozen / 2, rel=0.01)


@pytest.mark.slow
def test_frames_in_portions_save_more():
    changes = {"size": 64, "num_frames": 6, "gradient_checkpointing": True}
    thrifty = compute(settings(**changes), 1)
    in_portions = compute(settings(**changes, memory={"chunk_frames": 2}), 1)
    assert in_portions["activations at the peak"] < 0.6 * thrifty["activations at the peak"]


def test_moments_in_a_byte_take_a_quarter():
    weight, bias = torch.empty(100, 100), torch.empty(100)
    eight = settings(optimiser={"name": "adamw_8bit"})
    assert optimiser_bytes(weight, settings()) == 80_000
    assert optimiser_bytes(weight, eight) == pytest.approx(20_000, rel=0.02)
    assert optimiser_bytes(bias, eight) == optimiser_bytes(bias, settings()) == 800


def test_processes_are_those_of_the_shipped_command():
    assert {path.stem: processes_of(path) for path in shipped()} == {
        "mimicmotion_72_frames": 8,
        "mimicmotion_lora_24gb": 1,
        "mimicmotion_mini": 1,
        "mimicmotion_mini_own": 1,
        "mimicmotion_paper": 8,
    }
    assert all(Path(path).is_file() for path in shipped())
