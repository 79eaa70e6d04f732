"""Checkpoints are written while the training continues, by all processes together, for any number of them."""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from mimic.data.dataset import ClipDataset
from mimic.data.index import DataError
from mimic.training.checkpoints import newest_whole
from mimic.training.loop import train
from mimic.training.saved import own_share
from mimic.training.saving import Saving
from mimic.training.state import StateError, checkpoints, load_facts
from mimic.training.stored import stored_tensors
from tests.mimic.training.small import (
    Said,
    digests,
    facts_of,
    log_of,
    quick_settings,
    run_together,
    start,
    train_here,
)

WHOLE = {
    "uneven": torch.arange(15.0).reshape(5, 3),
    "single": torch.arange(4.0).reshape(1, 4),  # more processes than rows
    "bytes": torch.arange(6, dtype=torch.uint8).reshape(6),
    "scalar": torch.tensor(7.0),
}


@pytest.fixture
def slow_disk(monkeypatch):
    """Flushing a file takes a tenth of a second."""
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.1), flush(file))[1])


def settings_of(folder: Path, **changes):
    return quick_settings(folder, checkpoints={"every": 2}, **changes)


def test_steps_are_made_while_a_checkpoint_is_written_and_change_nothing_in_it(tmp_path, monkeypatch):
    there, is_made, flush = {}, threading.Event(), os.fsync
    # No file reaches the disk before the third step is made.
    monkeypatch.setattr(os, "fsync", lambda file: (is_made.wait(200), flush(file))[1])

    def say(line: str) -> None:
        if line.startswith("step "):
            there[line.partition("/")[0]] = [path.name for path in checkpoints(tmp_path / "slow")]
        if line.startswith("step 3/"):
            is_made.set()

    train(settings_of(tmp_path / "slow", max_steps=4), say=say)
    assert there["step 3"] == [], "checkpoint-2 is being written"
    assert [path.name for path in checkpoints(tmp_path / "slow")] == ["checkpoint-2", "checkpoint-4"]
    train(settings_of(tmp_path / "two", max_steps=2), say=Said())
    for group in ("weights", "average", "optimiser"):
        name = f"checkpoint-2/{group}.safetensors"
        assert (tmp_path / "slow" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.usefixtures("slow_disk")
def test_a_validation_waits_for_its_checkpoint_and_the_best_one_stays(tmp_path):
    settings = quick_settings(
        tmp_path, max_steps=4, checkpoints={"every": 1, "keep": 1}, validation={"every": 2, "num_clips": 1}
    )
    train(settings, say=Said())
    figures = {line["step"]: line["validation"]["psnr"] for line in log_of(tmp_path) if "validation" in line}
    best = max(figures, key=figures.__getitem__)
    assert {path.name for path in checkpoints(tmp_path)} == {f"checkpoint-{best}", "checkpoint-4"}
    facts = facts_of(tmp_path / "checkpoint-4")
    assert facts["validation"]["figures"]["psnr"] == figures[4]
    assert facts["files"] == [f"{group}.safetensors" for group in ("average", "optimiser", "weights")]


def train_on_a_slow_disk(folder: Path) -> None:
    flush = os.fsync
    # The second checkpoint never gets to the disk.
    os.fsync = lambda file: (time.sleep(600 * bool(list(folder.glob(".checkpoint-4.*")))), flush(file))[1]
    train_here(settings_of(folder))


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    train(settings_of(tmp_path / "whole"), say=Said())
    killed = tmp_path / "killed"
    process = start(train_on_a_slow_disk, killed)
    end = time.monotonic() + 120
    while not list(killed.glob(".checkpoint-4.*/weights.safetensors")):
        assert time.monotonic() < end
        assert process.is_alive()
    process.kill()
    process.join()
    assert list(killed.glob(".checkpoint-4.*")), "it had no name yet"
    (stored, _, progress), damaged = newest_whole(checkpoints(killed))
    assert (stored.checkpoint.name, progress.step, damaged) == ("checkpoint-2", 2, [])
    train(settings_of(killed), say=Said())
    assert not list(killed.glob(".*"))
    assert digests(killed / "final") == digests(tmp_path / "whole" / "final")


def test_a_refused_rename_of_a_checkpoint_ends_no_training(tmp_path, monkeypatch):
    train(settings_of(tmp_path / "whole", max_steps=6), say=Said())
    rename, said = os.replace, Said()

    def refuse(source, target):
        if Path(target).name == "checkpoint-4":
            raise PermissionError(13, "used by another process", os.fspath(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("mimic.training.shards.PATIENCE_S", 0.1)
    train(settings_of(tmp_path / "refused", max_steps=6, validation={"every": 4, "num_clips": 1}), say=said)
    assert "checkpoint-4 is given up" in str(said)
    assert [path.name for path in checkpoints(tmp_path / "refused")] == ["checkpoint-2", "checkpoint-6"]
    assert not list((tmp_path / "refused").glob(".*partial*"))
    weights = [digests(tmp_path / name / "final")["mimicmotion.safetensors"] for name in ("whole", "refused")]
    assert weights[0] == weights[1]


def test_a_clip_that_cannot_be_read_costs_no_step_that_was_made(tmp_path, monkeypatch):
    read, count = ClipDataset.__getitem__, itertools.count()

    def fail_in_step_4(dataset, place):
        if next(count) >= 6:
            raise DataError("clip.mp4 cannot be read")
        return read(dataset, place)

    monkeypatch.setattr(ClipDataset, "__getitem__", fail_in_step_4)
    with pytest.raises(DataError, match=r"clip\.mp4 cannot be read"):
        train(quick_settings(tmp_path, max_steps=9, checkpoints={"every": 50}), say=Said())
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-3"]


def test_a_damaged_checkpoint_that_cannot_be_renamed_does_not_stop_the_next_start(tmp_path, monkeypatch):
    train(settings_of(tmp_path, max_steps=4), say=Said())
    (tmp_path / "checkpoint-4" / "facts.json").unlink()
    rename, said = os.replace, Said()

    def refuse(source, target):
        if "-damaged" in Path(target).name:
            raise PermissionError(13, "used by another process", os.fspath(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    train(settings_of(tmp_path, max_steps=4), say=said)
    assert "could not be renamed (used by another process)" in str(said)
    assert "going on from" in str(said)


def join(environment: dict[str, str]) -> tuple[int, int]:
    os.environ.update(environment)
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def groups_of(rank: int, number: int):
    """All tensors shared out by rows, and whole ones that all processes hold."""
    mesh = init_device_mesh("cpu", (number,))
    shared = {name: distribute_tensor(t, mesh, [Shard(0)]) for name, t in WHOLE.items() if t.ndim}
    groups = {"weights": {**shared, "scalar": WHOLE["scalar"]}, "average": dict(WHOLE)}
    return own_share(groups, {**shared, "scalar": WHOLE["scalar"]}, rank=rank, num_ranks=number)


def write_parts(checkpoint: Path, environment: dict[str, str]) -> None:
    rank, number = join(environment)
    saving = Saving()
    saving.start(checkpoint, groups_of(rank, number), facts={"step": 1, "groups": ["average", "weights"]})
    saving.wait()
    torch.distributed.destroy_process_group()


def read_parts(checkpoint: Path, environment: dict[str, str]) -> None:
    _, number = join(environment)
    processes = Saving().processes
    stored = stored_tensors(checkpoint, load_facts(checkpoint))
    mesh = init_device_mesh("cpu", (number,))
    places = {
        name: distribute_tensor(torch.zeros_like(whole), mesh, [Shard(0)]) if whole.ndim else whole * 0
        for name, whole in WHOLE.items()
    }
    for group in ("weights", "average"):
        stored.load(group, places, processes=processes)
        for name, place in places.items():
            found = place.full_tensor() if WHOLE[name].ndim else place
            assert torch.equal(found, WHOLE[name]), name
            place.zero_()
    torch.distributed.destroy_process_group()


def write_where_one_may_not(checkpoint: Path, environment: dict[str, str]) -> None:
    import resource

    rank, number = join(environment)
    if rank == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    saving = Saving()
    saving.start(checkpoint, groups_of(rank, number), facts={"step": 1, "groups": []})
    with pytest.raises(StateError, match=r"checkpoint-1 could not be written: .*output_dir"):
        saving.wait()
    torch.distributed.destroy_process_group()


def test_what_two_processes_wrote_three_and_one_read(tmp_path):
    checkpoint = tmp_path / "checkpoint-1"
    run_together(write_parts, 2, checkpoint)
    assert not list(tmp_path.glob(".*"))
    parts = [load_file(file) for file in sorted(checkpoint.glob("weights-*"))]
    assert [len(part["uneven"]) for part in parts] == [3, 2], "each wrote what it holds"
    averages = [load_file(file) for file in sorted(checkpoint.glob("average-*"))]
    assert sorted(name for part in averages for name in part) == sorted(WHOLE), "and each a share of the rest"
    run_together(read_parts, 3, checkpoint)
    stored = stored_tensors(checkpoint, load_facts(checkpoint))
    places = {name: torch.zeros_like(whole) for name, whole in WHOLE.items()}
    stored.load("weights", places)
    assert all(torch.equal(place, WHOLE[name]) for name, place in places.items())

    (checkpoint / "weights-00002-of-00002.safetensors").unlink()
    with pytest.raises(StateError, match=r"weights-00002-of-00002\.safetensors is missing"):
        stored_tensors(checkpoint, load_facts(checkpoint))
    facts = load_facts(checkpoint)
    facts["files"].remove("weights-00002-of-00002.safetensors")
    with pytest.raises(StateError, match="parts of bytes in weights are missing"):
        stored_tensors(checkpoint, facts)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a POSIX matter")
def test_where_one_process_cannot_write_all_are_told_and_nothing_stays(tmp_path):
    run_together(write_where_one_may_not, 2, tmp_path / "checkpoint-1")
    assert not list(tmp_path.iterdir())
