"""Training YAMLs: each shipped one builds, and a mistake in one is a sentence."""

from pathlib import Path

import pytest

from mimic.cli.main import main as run_command
from mimic.config.loading import ConfigError
from mimic.training.main import settings_of, train

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_training_yaml_builds(path):
    assert settings_of(path).max_steps > 0
    assert path.read_text().startswith("#"), "a shipped YAML starts with the command that runs it"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_training_of_a_family_is_validated(path):
    """Also before its first step, but for the recipes of the bundled models, which begin with nothing."""
    settings = settings_of(path)
    if path.stem == "debug" or not hasattr(settings, "family"):
        return
    assert settings.validation.every > 0
    assert settings.validation.at_start or path.stem.startswith("mini")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["animate_anyone", "magic_animate"])
@pytest.mark.parametrize("stage", [1, 2])
def test_the_validation_of_the_other_families_runs_at_tiny_size(tmp_path, name, stage):
    config = SHIPPED[0].with_name(f"{name}_stage{stage}.yaml")
    overrides = [
        "model=tiny", "checkpoint=null", "max_steps=1", "batch_size=1", "accumulate=1", "precision=fp32",
        "num_workers=0", "cpu_threads=1", "memory.cache=null", "ema_decay=null", "data.source=synthetic",
        "data.path=null", "data.densepose_videos=null", "data.num_clips=1", "data.num_val_clips=1",
        "data.height=64", "data.width=64", f"data.num_frames={2 * stage - 1}", f"output_dir={tmp_path}",
    ]  # fmt: skip
    train(config, overrides, is_quiet=True)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "step 0 (before training)" in page
    assert "step 1 (best and last)" in page


def test_overrides_replace_what_the_yaml_says():
    path = SHIPPED[0].with_name("mini_vae.yaml")
    settings = settings_of(path, ["max_steps=7", "dancers.noise_strength=0.25"])
    assert settings.max_steps == 7
    assert settings.dancers.noise_strength == 0.25


def test_a_misspelt_key_and_an_unknown_trainer_are_named(tmp_path):
    with pytest.raises(ConfigError, match="learning_rate"):
        settings_of(SHIPPED[0].with_name("mini_vae.yaml"), ["learning_rat=1"])
    config = tmp_path / "other.yaml"
    config.write_text("trainer: maxi\n")
    with pytest.raises(ConfigError, match=r"maxi.*use mini_vae, or"):
        settings_of(config)


@pytest.mark.parametrize("program", ["train.py", "mimic"])
def test_what_goes_wrong_is_told_under_the_name_that_was_called(program, capsys):
    called = {"train.py": "train.py", "mimic": "mimic train"}[program]
    assert run_command(["train", "--config", "nowhere.yaml"], program=program) == 2
    assert capsys.readouterr().err.startswith(f"{program}: there is no config nowhere.yaml")
    with pytest.raises(SystemExit):
        run_command(["train", "--max-steps", "3"], program=program)
    assert capsys.readouterr().err.startswith(f"{called}: ")


def test_family_and_its_objective_are_checked_with_the_rest():
    debug = SHIPPED[0].with_name("debug.yaml")
    assert settings_of(debug, ["objective.P_mean=0.5"]).objective == {"P_mean": 0.5}
    for override, told in (
        ("objective.P_men=1", r"in objective: P_men .*did you mean P_mean"),
        ("family=mimicmotio", r"family is 'mimicmotio'; those that train are mimicmotion"),
        ("optimiser.learning_rat=1", r"optimiser\.learning_rat .*did you mean optimiser.learning_rate"),
        ("accumulate=3", r"batch_size is 2, accumulate 3"),
        ("trainer=mini_vae", r"both family and trainer"),
    ):
        with pytest.raises(ConfigError, match=told):
            settings_of(debug, [override])


def test_a_missing_vae_and_numbers_that_cannot_be_are_told_before_any_work(tmp_path):
    config = SHIPPED[0].with_name("mini_vae_clips.yaml")
    with pytest.raises(ConfigError, match=r"there is no VAE in .*none.*first lines"):
        train(config, [f"start_from={tmp_path / 'none'}", f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(ConfigError, match="max_steps"):
        settings_of(config, ["max_steps=0"])
    assert not (tmp_path / "run").exists()


def test_a_start_that_was_not_made_is_told_with_what_to_do(tmp_path):
    config = SHIPPED[0].with_name("mini_animate_anyone_stage1.yaml")
    with pytest.raises(ConfigError, match=r"model: there is no model folder .*none; .*first lines"):
        train(config, [f"model={tmp_path / 'none'}", f"output_dir={tmp_path / 'run'}"])


def test_absurd_numbers_of_processes_and_threads_are_refused_before_any_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"num_workers is 1000; expected a whole number from 0 to \d+"):
        settings_of(SHIPPED[0].with_name("debug.yaml"), ["num_workers=1000"])
    with pytest.raises(ConfigError, match="cpu_threads is 1000000"):
        settings_of(SHIPPED[0].with_name("debug.yaml"), ["cpu_threads=1000000"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.pth=fr", "data.pth is not a setting; did you mean data.path?"),
        ("num_frames=8", "num_frames is not a setting; did you mean data.num_frames?"),
        ("learning_rate=1", "learning_rate is not a setting; did you mean optimiser.learning_rate?"),
    ],
)
def test_a_misplaced_setting_is_told_as_it_is_to_be_typed(override, told, capsys):
    assert run_command(["train", "--config", "bundled:train/debug", override], program="mimic") == 2
    assert told in capsys.readouterr().err
