"""Weights say what they are: base, licence, rank, steps, window, version; equal weights give equal bytes."""

import pytest

from mimic.training.card import facts_of, model_card
from mimic.training.export import export
from mimic.training.tasks import make_task
from mimic.weights.licences import CARD_FILE, licence_of
from mimic.weights.metadata import read_facts
from tests.mimic.training.small import digests, small_settings


def test_files_of_weights_and_the_card_say_what_they_are_made_of(tmp_path):
    pytest.importorskip("peft")
    settings = small_settings(tmp_path, trainable=["pose_net"], lora={"rank": 2, "alpha": 4})
    for name in ("one", "two"):
        task = make_task(settings)
        facts = facts_of(settings, task, 6)
        card = model_card(facts, settings, best={"step": 4, "value": 21.5})
        export(task, tmp_path / name, facts=facts, card=card)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    for file in ("lora.safetensors", "mimicmotion.safetensors"):
        found = read_facts(tmp_path / "one" / file)
        assert found["base"] == "tiny"
        assert found["licence"] == "Apache-2.0"
        assert (found["rank"], found["alpha"], found["steps"], found["window"]) == ("2", "4", "6", "3")
        assert found["version"].startswith("mimic ")
    text = (tmp_path / "one" / CARD_FILE).read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "rank 2, alpha 4" in text
    assert "psnr 21.5 at step 4" in text
    assert 'load_lora_weights("FOLDER"' in text


def test_the_licence_is_that_of_the_base_as_far_as_it_says_one(tmp_path):
    released = licence_of(
        "stabilityai/stable-video-diffusion-img2vid-xt-1-1", "hf:tencent/MimicMotion/MimicMotion_1-1.pth"
    )
    assert "Stability AI" in released
    assert "research use only" in released
    settings = small_settings(tmp_path, model=str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    assert licence_of(settings.model) == f"that of {tmp_path / 'own'}, which states none"
    facts = {"licence": released, "base": "x", "steps": "1", "window": "17", "version": "mimic 1"}
    (tmp_path / "own" / CARD_FILE).write_text(model_card(facts, settings), encoding="utf-8")
    assert licence_of(settings.model) == released, "a second fine-tuning keeps it"


def test_a_model_trained_on_videos_does_not_keep_the_warning_of_the_rendered_ones(tmp_path):
    kept = make_task(small_settings(tmp_path, model="bundled:mini", data={"height": 96, "width": 96}))
    assert "synthetic dancers only" in kept.pipeline().generation_defaults["warning"]
    data = {"source": "prepared", "path": "x", "height": 96, "width": 96, "num_frames": 3}
    settings = small_settings(tmp_path, model="bundled:mini")
    settings = type(settings).model_validate(settings.model_dump(exclude_unset=True) | {"data": data})
    defaults = make_task(settings).pipeline().generation_defaults
    assert "warning" not in defaults
    assert "description" not in defaults
    assert defaults["tile_size"] == 4
