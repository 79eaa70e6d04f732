"""Notes, checkpoints, renders and caches that are not as they were written, as the fuzzer found them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from mimic.config.loading import ConfigError
from mimic.data.cache import CacheError
from mimic.data.prepare.notes import Notes
from mimic.data.prepare.sources import Source
from mimic.generation.unfinished import Unfinished, finish_interrupted
from mimic.locks import LOCK_FILE, FolderInUseError, locked_folder
from mimic.results import JOURNAL, ResultFiles
from mimic.training.checkpoints import newest_whole
from mimic.training.logs import cut_log
from mimic.training.report import validations, write_report
from mimic.training.state import StateError, checkpoints
from mimic.ui.errors import StudioError
from mimic.ui.results import finished_results
from pose import PoseError, PoseSequence
from tests.robustness.messages import ODD, fault_of
from tests.robustness.parsers import PARSERS, VERSIONS, samples


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "1e999", "NaN", "null", f"1{'0' * 400}"])
def test_a_line_of_the_log_without_a_step_is_left_out(tmp_path: Path, value: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": ' + value + "}\n")
    assert cut_log(tmp_path / "log.jsonl", 5) == {"step": 1}
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    "change",
    [
        {"video": None}, {"video": "../b.mp4"}, {"video": ""}, {"side_by_side": 3}, {"former": "1"},
        {"former": 0}, {"folder": 1}, {"folder": "."}, {"folder": "/"}, {"folder": "x" * 9999},
        {"folder": "../../nowhere"}, {"video": "b.mp4"}, {"video": "x" * 300}, {"video": "a\0"},
        {"side_by_side": "\ud800"},
    ],
)  # fmt: skip
def test_a_note_of_placing_that_is_not_ours_moves_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    placing = next(path for path in samples("renders", tmp_path) if path.name == "placing")
    note = next(placing.rglob(JOURNAL))
    note.write_text(json.dumps({**json.loads(note.read_text()), **change}))
    finish_interrupted(ResultFiles(placing / "a.mp4"))
    assert [path.name for path in placing.iterdir()] == ["a.unfinished"]


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("denoising", "num_done", [None, "x", "-1", "0"]),
        ("denoising", "num_steps", [None, "x", "0"]),
        (
            "denoising",
            "scheduler",
            [None, "x", "3", "[[]]", '{"a": 3}', '{"a": {"tensor": "b"}}', "[" * 9999],
        ),
        ("frames_000000", "num_chunks", [None, "x", "-1", "0"]),
    ],
)
def test_a_state_whose_notes_are_damaged_is_not_used(
    tmp_path: Path, name: str, key: str, values: list[str | None]
) -> None:
    begun = next(path for path in samples("renders", tmp_path) if path.name == "begun")
    path = next(begun.rglob(f"{name}.safetensors"))
    content, tensors = path.read_bytes(), load_file(path)
    notes = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    for value in values:
        changed = {**notes, key: value} if value is not None else {k: v for k, v in notes.items() if k != key}
        save_file(tensors, path, metadata=changed)
        state = Unfinished(ResultFiles(begun / "a.mp4"), "me", versions=VERSIONS)
        assert (state.steps.num_saved if name == "denoising" else state.frames.num_frames) == 0
        state.announce()


@pytest.mark.parametrize(
    "holder", ["[" * 3000 + "]" * 3000, {"work": ODD, "pid": 1, "host": "a", "since": "b"}]
)
def test_a_damaged_note_of_who_holds_a_folder_is_no_obstacle(tmp_path: Path, holder: Any) -> None:
    with locked_folder(tmp_path, work="a test", say=print):
        (tmp_path / LOCK_FILE).write_text(holder if isinstance(holder, str) else json.dumps(holder))
        with pytest.raises(FolderInUseError) as raised, locked_folder(tmp_path, work="a test", say=print):
            pass
    assert fault_of(str(raised.value)) is None


def _training(folder: Path, name: str = "now") -> Path:
    return next(path for path in samples("trainings", folder) if path.name == name)


@pytest.mark.parametrize("group", ["average", "optimiser", "weights"])
def test_a_checkpoint_that_is_not_as_it_was_written_is_not_resumed_from(tmp_path: Path, group: str) -> None:
    path = _training(tmp_path) / "checkpoint-3" / f"{group}.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # another finite number
    path.write_bytes(content)
    (stored, _, progress), ((damaged, error),) = newest_whole(checkpoints(path.parent.parent))
    assert (progress.step, stored.checkpoint.name, damaged.name) == (2, "checkpoint-2", "checkpoint-3")
    assert f"{group}.safetensors is not as it was written" in str(error)


@pytest.mark.parametrize("group", ["average", "optimiser", "weights"])
@pytest.mark.parametrize("name", [ODD[:5], "step." + ODD[:5], "exp_avg." + ODD])
def test_odd_names_of_tensors_are_not_shown_as_they_are(tmp_path: Path, group: str, name: str) -> None:
    path = _training(tmp_path, "first") / "checkpoint-3" / f"{group}.safetensors"
    tensors = load_file(path)
    tensors[name] = tensors.pop(next(reversed(tensors)))
    save_file(tensors, path)
    (_, _, progress), damaged = newest_whole(checkpoints(path.parent.parent))
    assert group != "optimiser" or progress.step == 2
    assert all(fault_of(str(error)) is None for _, error in damaged)


def test_weights_that_are_not_finite_are_not_resumed_from(tmp_path: Path) -> None:
    path = _training(tmp_path, "first") / "checkpoint-3" / "weights.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    (_, _, progress), ((_, error),) = newest_whole(checkpoints(path.parent.parent))
    assert progress.step == 2
    assert "has NaN or infinite values" in str(error)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("progress", {"skipped": 10**30}), ("progress", {"skipped_in_row": -1}),
        ("progress", {"best": {"step": 2, "value": float("nan")}}),
        ("progress", {"best": {"step": 9, "value": 1.0}}),
        ("scaler", {"scale": "x"}), ("scaler", {"_growth_tracker": None}),
        ("hashes", {"weights.safetensors": 3}), ("hashes", {"weights.safetensors": ""}),
    ],
)  # fmt: skip
def test_facts_that_no_training_has_are_not_resumed_from(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    path = _training(tmp_path) / "checkpoint-3" / "facts.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, name: {**facts[name], **change}}))
    (_, _, progress), _ = newest_whole(checkpoints(path.parent.parent))
    assert progress.step == 2


@pytest.mark.parametrize("step", [0, 2, 10**30])
def test_a_step_that_the_progress_contradicts_is_not_resumed_from(tmp_path: Path, step: int) -> None:
    path = _training(tmp_path, "first") / "checkpoint-3" / "facts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": step}))
    (_, facts, progress), _ = newest_whole(checkpoints(path.parent.parent))
    assert facts["step"] == progress.step == 2


def test_damaged_lines_of_a_log_are_left_out_of_its_report(tmp_path: Path) -> None:
    training = _training(tmp_path)
    with (training / "log.jsonl").open("ab") as log:
        log.write(b'{"step": %d, "validation": {"psnr": 1.0}}\n' % (10**400))
        log.write(b'{"step": 4, "validation": {"psnr": "many", "ssim": NaN, "l1": 0.1}}\n\xff\n[3]\n')
        log.write(
            b'{"step": "5", "validation": {}}\n{"step": 6, "loss": [], "levels": {"a": "b"}}\n{"step": 7, '
        )
    assert validations(training, last_step=9) == {
        0: {"psnr": 9.1},
        3: {"psnr": 11.7, "ssim": 0.3},
        4: {"l1": 0.1},
    }
    assert write_report(training, best_by="psnr", best_step=3, videos="validation") is not None


@pytest.mark.parametrize("name", ["denoising", "frames_000000"])
def test_a_state_that_is_not_as_it_was_written_is_not_used(tmp_path: Path, name: str) -> None:
    begun = next(path for path in samples("renders", tmp_path) if path.name == "begun")
    path = next(begun.rglob(f"{name}.safetensors"))
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    state = Unfinished(ResultFiles(begun / "a.mp4"), "me", versions=VERSIONS)
    assert (state.steps.num_saved if name == "denoising" else state.frames.num_frames) == 0


@pytest.mark.parametrize("name", ["denoising", "frames_000000"])
def test_a_state_without_metadata_is_not_used(tmp_path: Path, name: str) -> None:
    begun = next(path for path in samples("renders", tmp_path) if path.name == "begun")
    path = next(begun.rglob(f"{name}.safetensors"))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8 : 8 + size]) | {"__metadata__": None}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + size :])
    state = Unfinished(ResultFiles(begun / "a.mp4"), "me", versions=VERSIONS)
    assert (state.steps.num_saved if name == "denoising" else state.frames.num_frames) == 0


def test_names_of_metrics_of_any_length_fit_on_the_page_of_a_training(tmp_path: Path) -> None:
    lines = [{"step": step, "validation": {"psnr": 9.0, "k" * 9999: 1.0}} for step in (0, 1)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(tmp_path, best_by="psnr", best_step=1, videos="validation")
    assert page is not None
    assert "k" * 100 not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["noise", "another tensor", "folder"])
def test_damaged_latents_are_told(tmp_path: Path, change: str) -> None:
    (sample,) = samples("caches", tmp_path)
    path = next(sample.rglob("*.safetensors"))
    content = path.read_bytes()
    if change == "noise":
        path.write_bytes(content[:-150] + b"\0\0" + content[-148:])
    elif change == "another tensor":
        path.write_bytes(content.replace(b'"latents"', b'"latentz"'))
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(CacheError, match=r"is damaged.*remove it and fill the cache again"):
        PARSERS["caches"].read(sample)


@pytest.mark.parametrize(
    "change",
    [
        {"parts": [[0, float("inf")]]}, {"parts": [[5, 3]]}, {"fps": "x"}, {"fps": float("nan")},
        {"width": -1}, {"video": None}, {"rejected": [{"video": [], "frames": None, "fps": None}]},
    ],
)  # fmt: skip
def test_a_damaged_survey_is_made_again(tmp_path: Path, change: dict[str, Any]) -> None:
    (sample,) = samples("prepared", tmp_path)
    note = next(path for path in sample.rglob("video.json") if json.loads(path.read_text())["parts"])
    content = json.loads(note.read_text())
    source = Source(content["video"], content["num_bytes"], content["changed_ns"])
    assert Notes(sample).survey(source) is not None
    note.write_text(json.dumps({**content, **change}))
    assert Notes(sample).survey(source) is None


@pytest.mark.parametrize(
    "change", [{"seconds": 10**400}, {"output": {"width": "x" * 9999}}, {"verdict": [3]}]
)
def test_a_damaged_report_of_a_result_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    (sample,) = samples("results", tmp_path)
    path = next(sample.rglob("result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StudioError, match=r"missing or damaged \(result\.json\)"):
        PARSERS["results"].read(sample)


def test_a_report_of_countless_sentences_shows_a_few(tmp_path: Path) -> None:
    (sample,) = samples("results", tmp_path)
    path = next(sample.rglob("result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": {"sentences": ["x" * 99] * 9999}}))
    (result,) = finished_results(sample)
    assert fault_of(result.words()) is None


def test_a_checkpoint_that_counts_tensors_of_an_endless_name_is_told_in_a_sentence(tmp_path: Path) -> None:
    for sample in samples("trainings", tmp_path):
        for facts in sample.rglob("facts.json"):
            found = json.loads(facts.read_text())
            facts.write_text(json.dumps({**found, "tensors": {"k" * 100_000 + ODD: 1}}))
        with pytest.raises((ConfigError, StateError)) as told:
            PARSERS["trainings"].read(sample)
        assert fault_of(str(told.value)) is None


@pytest.mark.parametrize("name", [f"p{ODD}", "p\u2028\u202e.npz", "p" * 100_000])
def test_poses_that_an_index_names_and_that_are_not_there_are_told_in_a_sentence(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises((FileNotFoundError, PoseError)) as told:
        PoseSequence.load(tmp_path / name)
    assert fault_of(str(told.value)) is None
