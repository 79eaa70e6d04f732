"""Folders appear whole or not at all; the right checkpoints stay; a log goes on where its checkpoint was."""

import os
import signal
import threading

import pytest
import torch

from mimic.files import remove_partial, whole_folder
from mimic.training.logs import cut_log
from mimic.training.signals import StopRequest
from mimic.training.state import StateError, checkpoints, load_state, save_state, step_of


def test_a_folder_takes_the_place_of_the_one_before_or_leaves_it(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "final") as beside:
            (beside / "inner").mkdir()
            (beside / "inner" / "file").write_text(content)
            assert not (tmp_path / "final").exists() or content == "new"
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "final") as beside:
        (beside / "half").write_text("")
        raise RuntimeError
    assert (tmp_path / "final" / "inner" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".checkpoint-4.123.partial").mkdir()
    (tmp_path / ".checkpoint-4.123.partial" / "weights.safetensors").write_text("half")
    (tmp_path / ".log.123.partial.jsonl").write_text("half")
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / ".hidden").write_text("someone's own")
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "checkpoint-2"]


def test_the_last_checkpoints_stay_and_those_that_are_asked_for(tmp_path):
    for step in (1, 2, 3, 10):
        tensors = {"weights": {"weight": torch.full((2,), float(step))}}
        save_state(tmp_path, step, tensors=tensors, facts={}, keep=2, also_keep=[1])
    assert [step_of(path) for path in checkpoints(tmp_path)] == [1, 3, 10]
    tensors, facts = load_state(tmp_path / "checkpoint-10")
    assert facts["step"] == 10
    assert torch.equal(tensors["weights"]["weight"], torch.full((2,), 10.0))


def test_a_checkpoint_without_its_facts_is_told(tmp_path):
    save_state(tmp_path, 1, tensors={"weights": {"weight": torch.ones(2)}}, facts={})
    (tmp_path / "checkpoint-1" / "facts.json").unlink()
    with pytest.raises(StateError, match="not a whole checkpoint"):
        load_state(tmp_path / "checkpoint-1")


def test_a_log_keeps_whole_lines_up_to_a_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\nnot json\n{"step": 3}\n{"ste')
    cut_log(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    cut_log(path, 0)
    assert path.read_text() == ""
    cut_log(tmp_path / "none.jsonl", 0)


def test_the_first_signal_is_noted_and_a_second_interrupt_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert stop.name is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_no_signal_is_handled():
    noted = []

    def run() -> None:
        with StopRequest() as stop:
            noted.append(stop.name)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert noted == [None]
