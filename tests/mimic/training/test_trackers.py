"""Figures and pictures go to the tracker that one setting names; what is not there is refused."""

import pytest

from mimic.config.loading import ConfigError
from mimic.training.engine import check_engine
from mimic.training.loop import train
from tests.mimic.training.small import Said, log_of, quick_settings


def test_a_tracker_gets_what_the_log_has_and_the_model_before_training_is_its_step_0(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = quick_settings(
        tmp_path,
        max_steps=2,
        tracker="tensorboard",
        validation={"every": 2, "num_clips": 1, "at_start": True},
    )
    said = Said()
    train(settings, say=said)
    assert "validation before the first step: psnr" in str(said)
    assert "the model before training" in str(said), "the closing line compares with step 0"
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[0]["validation"].keys() == lines[2]["validation"].keys()
    assert 0 <= lines[1]["waiting"] <= 1
    assert lines[1]["frames_per_s"] == pytest.approx(2 * lines[1]["clips_per_s"], rel=0.01)
    assert 0 <= lines[1]["frames_with_hands"] <= 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Step 2 is the best: PSNR " in page
    assert "the model before training" in page
    assert "step 0 (before training)" in page
    assert "step 2 (best and last)" in page
    for step in (0, 2):
        assert f'src="validation/step-{step:06d}.mp4"' in page
    (file,) = [path for path in tmp_path.rglob("events*") if "hparams" not in str(path)][:1]
    events = EventAccumulator(str(file.parent))
    events.Reload()
    assert [event.step for event in events.Scalars("validation/psnr")] == [0, 2]
    losses = [event.value for event in events.Scalars("loss")]
    assert losses == pytest.approx([line["loss"] for line in lines[1:]])
    assert [event.step for event in events.Images("validation")] == [0, 2]
    clips = events.Images("validation clip")
    assert [event.step for event in clips] == [0, 2]
    assert all(event.encoded_image_string.startswith(b"GIF8") for event in clips)


def test_a_tracker_that_is_unknown_or_not_installed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"tracker is 'wandbb', which accelerate does not know; .*wandb"):
        check_engine(quick_settings(tmp_path, tracker="wandbb"))
    with pytest.raises(ConfigError, match=r"clearml, which is not installed \(`pip install clearml`\)"):
        check_engine(quick_settings(tmp_path, tracker="clearml"))
