"""Only whole checkpoints of the trainer are resumed from or removed; whatever else happens is said."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mimic.config.loading import ConfigError
from mimic.training.checkpoints import newest_whole
from mimic.training.loop import train
from mimic.training.state import StateError, checkpoints, load_state, save_state, step_of
from tests.mimic.training.small import Said, facts_of, losses_of, quick_settings

FIRST_FORMAT = Path(__file__).parents[2] / "goldens" / "training" / "first_format"
TRANSFORMERS = int(transformers.__version__.split(".")[0])
"""Before 5, it draws the tiny model's image encoder in another order: other gradients than those recorded."""
USERS_OWN = (
    "checkpoint-4-best",
    "checkpoint-6-keep this",
    "checkpoint-6-bad",
    "checkpoint-007",
    "checkpoint-٣",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Checkpoints of steps 2, the best, and 3, made by the first version of their format."""
    for step in (2, 3):
        shutil.copytree(FIRST_FORMAT / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    return tmp_path


def settings(folder: Path, **changes):
    validation = {"every": 2, "num_clips": 1}
    content = {"max_steps": 4, "validation": validation, "checkpoints": {"every": 2, "keep": 1}}
    return quick_settings(folder, **content | changes)


def test_only_folders_with_exactly_its_names_are_the_trainers(tmp_path):
    for name in USERS_OWN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "facts.json").write_text("{}")
    for name in ("checkpoint-4-archive.tar", "checkpoint-9", "checkpoint-"):
        (tmp_path / name).write_text("a file of the user's")
    for step in (2, 4, 6, 10):
        save_state(tmp_path, step, tensors={"weights": {"weight": torch.ones(2)}}, facts={}, keep=1)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [10]
    assert {path.name for path in tmp_path.iterdir()} == {
        *USERS_OWN, "checkpoint-4-archive.tar", "checkpoint-9", "checkpoint-", "checkpoint-10"
    }  # fmt: skip


def test_checkpoints_of_the_first_format_resume_and_their_best_is_kept(folder):
    said = Said()
    train(settings(folder), say=said)
    assert f"going on from {folder / 'checkpoint-3'}" in str(said)
    assert "changed since" not in str(said)
    assert "validation after step 3" not in str(said), "it was made before that checkpoint was written"
    expected = load_file(FIRST_FORMAT / "weights_of_step_4.safetensors")
    found = load_file(folder / "checkpoint-4" / "weights.safetensors")
    assert found.keys() == expected.keys()
    before = load_file(FIRST_FORMAT / "checkpoint-3" / "weights.safetensors")
    for name, weight in expected.items():
        assert not torch.equal(found[name], before[name])
        if TRANSFORMERS >= 5:
            torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-6)
    best = facts_of(folder / "checkpoint-4")["progress"]["best"]["step"]
    assert {step_of(path) for path in checkpoints(folder)} == {int(best), 4}


def rewrite(**changes):
    def change(checkpoint: Path) -> None:
        facts = facts_of(checkpoint) | changes
        content = {name: value for name, value in facts.items() if value is not ...}
        (checkpoint / "facts.json").write_text(json.dumps(content))

    return change


def without(name):
    return lambda checkpoint: (checkpoint / name).unlink()


def cut_off(name):
    def change(checkpoint: Path) -> None:
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(content[: len(content) // 2])

    return change


def text_in_facts(text):
    return lambda checkpoint: (checkpoint / "facts.json").write_text(text)


def optimiser(change):
    def rewrite_tensors(checkpoint: Path) -> None:
        file = checkpoint / "optimiser.safetensors"
        save_file(change(load_file(file)), file)

    return rewrite_tensors


PROGRESS = {"step": 3, "skipped": 0, "skipped_in_row": 0, "best": {}, "saved": 3}
DAMAGES = {
    "no facts": (without("facts.json"), "facts.json is missing"),
    "facts cut off": (cut_off("facts.json"), "facts.json cannot be read"),
    "facts are a list": (text_in_facts("[1, 2]"), "holds no JSON object"),
    "facts nested deep": (text_in_facts("[" * 100_000), "facts.json cannot be read"),
    "facts in another encoding": (
        lambda checkpoint: (checkpoint / "facts.json").write_bytes(b'{"step": "\xff"}'),
        "facts.json cannot be read",
    ),
    "no step": (rewrite(step=...), r"step in facts.json is None"),
    "step is a text": (rewrite(step="3"), r"step in facts.json is '3'"),
    "step is true": (rewrite(step=True), r"step in facts.json is True"),
    "groups are a number": (rewrite(groups=3), "groups in facts.json is 3"),
    "files are a text": (rewrite(files="weights"), "files in facts.json is 'weights'"),
    "a file is missing": (rewrite(files=["weights-00002-of-00002.safetensors"]), "00002-of-00002.* is miss"),
    "a group is missing": (rewrite(groups=["weights", "more"]), "more.safetensors is missing"),
    "no progress": (rewrite(progress=...), "progress in facts.json is None"),
    "progress is a text": (rewrite(progress="far"), "progress in facts.json is 'far'"),
    "progress lacks a key": (rewrite(progress={"step": 3}), "progress.skipped in facts.json is None"),
    "progress of text": (rewrite(progress=PROGRESS | {"step": "3"}), "progress.step in facts.json is '3'"),
    "best of text": (rewrite(progress=PROGRESS | {"best": {"step": "2", "value": 1}}), "progress.best in"),
    "another step": (rewrite(progress=PROGRESS | {"step": 2}), "not what its name says"),
    "no settings": (rewrite(settings=None), "settings in facts.json is None"),
    "format is a text": (rewrite(format="3"), "format in facts.json is '3'"),
    "attempts are a text": (rewrite(validation={"attempts": "2"}), "validation.attempts in facts.json"),
    "settings of validation are a text": (
        lambda path: rewrite(settings=facts_of(path)["settings"] | {"validation": "x"})(path),
        "settings.validation in facts.json is 'x'",
    ),
    "tensors are counted as text": (rewrite(tensors={"weights": "9"}), "weights.safetensors has .* of '9'"),
    "scaler is a text": (rewrite(scaler="big"), "scaler in facts.json is 'big'"),
    "no weights": (without("weights.safetensors"), "weights.safetensors is missing"),
    "no average": (without("average.safetensors"), "average.safetensors is missing"),
    "no optimiser": (without("optimiser.safetensors"), "optimiser.safetensors is missing"),
    "optimiser cut off": (cut_off("optimiser.safetensors"), "optimiser.safetensors cannot be read"),
    "weights are text": (
        lambda checkpoint: (checkpoint / "weights.safetensors").write_text("weights"),
        "weights.safetensors cannot be read",
    ),
    "optimiser is empty": (optimiser(lambda state: {}), "optimiser.safetensors is empty after 3 steps"),
    "optimiser lacks a moment": (
        optimiser(lambda state: {k: v for k, v in state.items() if k != "exp_avg_sq.pose_net.scale"}),
        "optimiser.safetensors lacks exp_avg_sq.pose_net.scale",
    ),
    "optimiser of another weight": (
        optimiser(lambda state: state | {"exp_avg.unet.nothing": torch.ones(1)}),
        "exp_avg.unet.nothing, and there is no such weight",
    ),
    "a moment of another shape": (
        optimiser(lambda state: state | {"exp_avg.pose_net.scale": torch.ones(7)}),
        "exp_avg.pose_net.scale in optimiser.safetensors has another shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_never_resumed_from(folder, damage):
    change, told = DAMAGES[damage]
    change(folder / "checkpoint-3")
    (whole, _, progress), [(path, error)] = newest_whole(checkpoints(folder))
    assert (whole.checkpoint.name, progress.step, path.name) == ("checkpoint-2", 2, "checkpoint-3")
    assert f"{path} is not a whole checkpoint: " in str(error)
    assert "\n" not in str(error)
    with pytest.raises(StateError, match=told):
        raise error


def test_a_checkpoint_that_has_lost_all_of_one_weight_is_never_resumed_from(tmp_path):
    train(quick_settings(tmp_path / "run", max_steps=2, checkpoints={"every": 1, "keep": 9}), say=Said())
    for group in ("weights", "average", "optimiser"):
        run = Path(shutil.copytree(tmp_path / "run", tmp_path / group))
        file = run / "checkpoint-2" / f"{group}.safetensors"
        rewrite(hashes=...)(file.parent)  # as in checkpoints of before
        state = load_file(file)
        save_file({key: value for key, value in state.items() if not key.endswith("pose_net.scale")}, file)
        (whole, _, _), [(_, error)] = newest_whole(checkpoints(run))
        assert whole.checkpoint.name == "checkpoint-1"
        assert f"{group}.safetensors has" in str(error)


def test_a_training_falls_back_to_the_last_whole_checkpoint_and_says_so(folder):
    (folder / "checkpoint-3" / "optimiser.safetensors").unlink()
    (folder / "checkpoint-3-damaged").mkdir()
    said = Said()
    train(settings(folder, max_steps=3, validation={}), say=said)
    [line] = [line for line in said if "damaged" in line]
    assert "checkpoint-3 is not a whole checkpoint: optimiser.safetensors is missing; it is now " in line
    assert line.endswith("checkpoint-3-damaged-2")
    assert f"going on from {folder / 'checkpoint-2'}" in str(said)
    assert (folder / "checkpoint-3-damaged-2" / "weights.safetensors").is_file()
    if TRANSFORMERS < 5:
        return
    assert losses_of(folder)[-1] == pytest.approx(0.2657, abs=1e-3), "the third step, made again"
    tensors, _ = load_state(folder / "checkpoint-3")
    before = load_file(FIRST_FORMAT / "checkpoint-3" / "weights.safetensors")
    for name, weight in before.items():
        torch.testing.assert_close(tensors["weights"][name], weight, rtol=1e-4, atol=1e-6)


def test_where_none_is_whole_the_training_does_not_start_anew(folder):
    for step in (2, 3):
        (folder / f"checkpoint-{step}" / "facts.json").write_text("null")
    with pytest.raises(StateError, match=r"checkpoint-3 is not a whole .* no other one is whole.* another"):
        train(settings(folder), say=Said())
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2", "checkpoint-3"]
    assert not (folder / "final").exists()


def test_a_checkpoint_of_a_later_version_is_refused_with_the_remedy(folder):
    rewrite(format=99)(folder / "checkpoint-3")
    with pytest.raises(ConfigError, match=r"a later version of mimic .*update mimic"):
        newest_whole(checkpoints(folder))


def test_another_optimiser_is_refused_with_the_remedy(folder):
    facts = facts_of(folder / "checkpoint-3")
    facts["settings"]["optimiser"]["name"] = "adamw_8bit"
    (folder / "checkpoint-3" / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"optimiser\.name: adamw_8bit, whose state adamw cannot take; set"):
        train(quick_settings(folder, max_steps=9), say=Said())


def test_fewer_steps_than_the_checkpoint_has_are_said(folder):
    said = Said()
    outcome = train(settings(folder, max_steps=2, validation={}), say=said)
    assert outcome.step == 3
    [line] = [line for line in said if "max_steps" in line]
    assert "has 3 steps, more than max_steps: 2" in line
    assert "the finished model is that of step 3" in line


def test_a_learning_rate_that_jumps_is_said_and_one_that_does_not_is_not(folder):
    schedule = {"name": "cosine", "warmup_steps": 0}
    train(settings(folder, max_steps=5, validation={}, schedule=schedule), say=Said())
    said = Said()
    train(settings(folder, max_steps=6, validation={}, schedule=schedule), say=said)
    [line] = [line for line in said if "learning rate" in line]
    was, now = (1e-3 * (1 + math.cos(math.pi * share)) / 2 for share in (4 / 5, 5 / 6))
    assert f"jumps from {was:.3g} at step 5 to {now:.3g} at step 6" in line
    assert "max_steps have changed" in line


def test_a_constant_rate_does_not_jump_with_more_steps(folder):
    said = Said()
    train(settings(folder, validation={}, schedule={"warmup_steps": 2}), say=said)
    assert "learning rate" not in str(said)
