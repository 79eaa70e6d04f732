"""Folders appear whole or not at all; the right checkpoints stay; a log goes on where its checkpoint was."""

import json
import os
import signal
import threading

import pytest
import torch

from mimic.files import remove_partial, whole_folder
from mimic.training.logs import cut_log
from mimic.training.signals import StopRequest
from mimic.training.state import (
    StateError,
    checkpoints,
    load_facts,
    load_optimiser_tensors,
    load_state,
    optimiser_tensors,
    save_state,
    set_aside,
    step_of,
    update_facts,
)


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


def test_a_folder_that_cannot_take_its_name_leaves_the_one_before(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "final") as beside:
        (beside / "file").write_text("old")
    rename = os.replace

    def refuse_new(source, target):  # as while a virus scanner looks at what was just written
        if not str(source).endswith(".replaced.partial") and target == tmp_path / "final":
            raise PermissionError(13, "used by another process", os.fspath(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse_new)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(PermissionError), whole_folder(tmp_path / "final") as beside:
        (beside / "file").write_text("new")
    assert (tmp_path / "final" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".checkpoint-4.123.partial").mkdir()
    (tmp_path / ".checkpoint-4.123.partial" / "weights.safetensors").write_text("half")
    (tmp_path / ".log.123.partial.jsonl").write_text("half")
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / ".123.partial").write_text("half")
    (tmp_path / ".final.123.replaced.partial").mkdir()
    (tmp_path / ".hidden").write_text("someone's own")
    (tmp_path / ".thesis.partial.tex").write_text("someone's own")
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".hidden",
        ".thesis.partial.tex",
        "checkpoint-2",
    ]


def test_a_folder_of_another_program_is_no_old_checkpoint(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "optimizer.pt").write_text("of another trainer")
    for step in (2, 3):
        save_state(tmp_path, step, tensors={"weights": {"weight": torch.ones(2)}}, facts={}, keep=1)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-3"]


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


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("facts.json", "{", r"facts\.json cannot be read \(.+\)"),
        ("facts.json", "[1]", r"facts\.json holds no JSON object"),
        ("facts.json", '{"step": "1"}', r"step in facts\.json is '1'; expected a number of steps"),
        ("facts.json", '{"step": -1}', r"step in facts\.json is -1; expected a number of steps"),
        ("facts.json", '{"step": 1, "groups": 3}', r"groups in facts\.json is 3; expected a list of names"),
        (
            "facts.json",
            '{"step": 1, "groups": [3]}',
            r"groups in facts\.json is \[3\]; expected a list of names",
        ),
        ("facts.json", None, r"facts\.json is missing"),
        ("weights.safetensors", "half", r"weights\.safetensors cannot be read \(.+\)"),
        ("weights.safetensors", None, r"weights\.safetensors is missing"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_told_with_its_name(tmp_path, file, content, what):
    checkpoint = save_state(tmp_path, 1, tensors={"weights": {"weight": torch.ones(2)}}, facts={})
    (checkpoint / file).unlink()
    if content is not None:
        (checkpoint / file).write_text(content)
    with pytest.raises(StateError, match=rf"checkpoint-1 is not a whole checkpoint: {what}$"):
        load_state(checkpoint)


def test_facts_are_changed_and_the_others_stay(tmp_path):
    checkpoint = save_state(tmp_path, 0, tensors={"weights": {"weight": torch.ones(2)}}, facts={"a": 1})
    assert load_facts(checkpoint) == {"a": 1, "step": 0, "groups": ["weights"]}
    update_facts(checkpoint, {"step": 0, "b": "ä"})
    assert load_facts(checkpoint) == {"a": 1, "step": 0, "groups": ["weights"], "b": "ä"}
    assert sorted(path.name for path in checkpoint.iterdir()) == ["facts.json", "weights.safetensors"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file is not a whole checkpoint: facts\.json cannot be read"):
        update_facts(tmp_path / "file", {"step": 1})


def test_an_optimisers_state_comes_back_from_its_tensors():
    def stepped(num_steps, tensors=None):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
        if tensors is not None:
            load_optimiser_tensors(optimiser, tensors)
        for _ in range(num_steps):
            optimiser.zero_grad()
            layer(torch.ones(1, 3)).sum().backward()
            optimiser.step()
        return optimiser

    tensors = optimiser_tensors(stepped(3))
    assert sorted(tensors) == [f"{n}.{what}" for n in (0, 1) for what in ("exp_avg", "exp_avg_sq", "step")]
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    again = optimiser_tensors(stepped(0, tensors))
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert not torch.equal(optimiser_tensors(stepped(1))["0.exp_avg"], tensors["0.exp_avg"])


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
        signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
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


def test_damaged_checkpoints_are_set_aside_under_names_of_their_own(tmp_path):
    for expected in ("checkpoint-3-damaged", "checkpoint-3-damaged-2", "checkpoint-3-damaged-3"):
        (tmp_path / "checkpoint-3").mkdir()
        (tmp_path / "checkpoint-3" / "facts.json").write_text(expected)
        assert set_aside(tmp_path / "checkpoint-3") == tmp_path / expected
        assert (tmp_path / expected / "facts.json").read_text() == expected
    assert not (tmp_path / "checkpoint-3").exists()


def test_a_state_without_a_list_of_its_groups_is_read_as_it_is(tmp_path):
    save_state(tmp_path, 1, tensors={"weights": {"a": torch.ones(2)}}, facts={})
    facts = tmp_path / "checkpoint-1" / "facts.json"
    content = {key: value for key, value in json.loads(facts.read_text()).items() if key != "groups"}
    facts.write_text(json.dumps(content))
    tensors, _ = load_state(tmp_path / "checkpoint-1")
    assert torch.equal(tensors["weights"]["a"], torch.ones(2))


def test_a_folder_in_place_of_the_log_is_told(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(StateError, match=r"log\.jsonl is no file"):
        cut_log(tmp_path / "log.jsonl", 3)
