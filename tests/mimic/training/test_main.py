"""Training YAMLs: each shipped one builds, and a mistake in one is a sentence."""

from pathlib import Path

import pytest

from mimic.config.loading import ConfigError
from mimic.training.main import settings_of, train

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_training_yaml_builds(path):
    assert settings_of(path).max_steps > 0
    assert path.read_text().startswith("#"), "a shipped YAML starts with the command that runs it"


def test_overrides_replace_what_the_yaml_says():
    path = SHIPPED[0].with_name("mini.yaml")
    settings = settings_of(path, ["max_steps=7", "dancers.noise_strength=0.25"])
    assert settings.max_steps == 7
    assert settings.dancers.noise_strength == 0.25


def test_a_misspelt_key_and_an_unknown_trainer_are_named(tmp_path):
    with pytest.raises(ConfigError, match="learning_rate"):
        settings_of(SHIPPED[0].with_name("mini.yaml"), ["learning_rat=1"])
    config = tmp_path / "other.yaml"
    config.write_text("trainer: maxi\n")
    with pytest.raises(ConfigError, match=r"maxi.*mini_vae or mini"):
        settings_of(config)


def test_a_missing_vae_and_numbers_that_cannot_be_are_told_before_any_work(tmp_path):
    config = SHIPPED[0].with_name("mini.yaml")
    with pytest.raises(ConfigError, match=r"mini_vae\.yaml"):
        train(config, [f"vae={tmp_path / 'none'}", f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(ConfigError, match="max_steps"):
        settings_of(config, ["max_steps=0"])
    assert not (tmp_path / "run").exists()
