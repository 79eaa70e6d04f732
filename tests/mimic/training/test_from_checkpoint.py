"""A checkpoint becomes a model folder, and one that is given as a model is told how."""

import json
from pathlib import Path

import pytest

from mimic.cli import main
from mimic.config import ConfigError
from mimic.families.registry import find_sources, load_pipeline
from mimic.training.from_checkpoint import export_checkpoint, settings_of_checkpoint
from mimic.training.loop import train
from mimic.training.main import settings_of
from mimic.training.settings import TrainSettings
from mimic.weights.errors import SourceError
from tests.mimic.training.small import digests, small_settings

CONFIGS = Path(__file__).parents[3] / "configs" / "train"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(small_settings(folder, max_steps=2, checkpoints={"every": 1}), say=lambda _: None)
    return folder


def test_the_last_checkpoint_becomes_the_bytes_of_the_finished_model(trained: Path, tmp_path: Path) -> None:
    made = export_checkpoint(trained / "checkpoint-2", tmp_path / "model")
    assert digests(made) == digests(trained / "final")


def test_the_command_exports_any_checkpoint_and_says_how_to_use_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["export", str(trained / "checkpoint-1"), str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{folder}\n"
    assert f"--model {folder}" in printed.err
    assert digests(folder) != digests(trained / "final")
    load_pipeline(folder, device="cpu")
    assert main(["export", str(trained / "checkpoint-2"), str(folder)]) == 2
    assert "is there already; choose another name, or give --overwrite" in capsys.readouterr().err
    assert main(["export", str(trained / "checkpoint-2"), str(folder), "--overwrite"]) == 0
    assert digests(folder) == digests(trained / "final")


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_of_a_checkpoint_are_those_of_the_training_whatever_its_clips_are(config: Path) -> None:
    settings = settings_of(config)
    if isinstance(settings, TrainSettings):
        stored = json.loads(settings.model_dump_json())
        assert settings_of_checkpoint(stored, Path("checkpoint-1")).model_dump() == settings.model_dump()


def test_a_folder_that_is_no_model_is_never_replaced(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no model folder; it is not replaced"):
        export_checkpoint(trained / "checkpoint-2", tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_training_replaces_no_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="final is no model folder; it is not replaced"):
        train(small_settings(tmp_path, max_steps=1), say=lambda _: None)
    assert (tmp_path / "final" / "thesis.tex").read_text() == "mine"
    assert not list(tmp_path.glob("checkpoint-*"))


def test_what_is_no_checkpoint_is_told(trained: Path, tmp_path: Path) -> None:
    for folder in (trained, trained / "final", tmp_path / "checkpoint-9"):
        with pytest.raises(ConfigError, match="expected a folder checkpoint-<step>"):
            export_checkpoint(folder, tmp_path / "model")


def test_a_training_given_as_a_model_is_told_what_to_do(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoint-2"
    with pytest.raises(SourceError, match=rf"`mimic export {checkpoint} OUT` makes one"):
        load_pipeline(checkpoint)
    with pytest.raises(SourceError, match="mimic export"):
        find_sources("bundled:mini", checkpoint)
    with pytest.raises(SourceError, match=rf"its model is {trained / 'final'}"):
        load_pipeline(trained)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "checkpoint-1").symlink_to(checkpoint, target_is_directory=True)
    with pytest.raises(SourceError, match=r"has not ended; `mimic export .*checkpoint-1 OUT`"):
        load_pipeline(unfinished)


def test_a_model_with_files_of_the_users_is_never_replaced(trained: Path, tmp_path: Path) -> None:
    folder = export_checkpoint(trained / "checkpoint-1", tmp_path / "model")
    export_checkpoint(trained / "checkpoint-1", folder, overwrite=True)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds thesis\.tex, which mimic did not write"):
        export_checkpoint(trained / "checkpoint-1", folder, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "mine"
