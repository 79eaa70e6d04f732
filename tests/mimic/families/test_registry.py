import pytest
import torch

from mimic import MimicMotionPipeline, load_pipeline
from mimic.families.family import Family
from mimic.families.registry import FAMILIES, register
from tests.tiny import CHECKPOINT, random_pipeline, write_base


def test_a_folder_is_loaded_as_what_it_says_it_is(tmp_path):
    pipe = random_pipeline()
    pipe.generation_defaults = {"fps": 8}
    pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu")
    assert isinstance(loaded, MimicMotionPipeline)
    assert loaded.generation_defaults == {"fps": 8}
    assert loaded.unet.dtype == torch.float32
    assert load_pipeline(tmp_path, device="cpu", dtype="fp16").unet.dtype == torch.float16


def test_a_checkpoint_is_put_on_its_base(tmp_path):
    pipe = load_pipeline(write_base(tmp_path), checkpoint=CHECKPOINT, device="cpu", dtype="bfloat16")
    assert pipe.unet.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype 'float8' is not known; use one of float32"),
        ({}, "plain Stable Video Diffusion, which has no pose condition; also give a MimicMotion checkpoint"),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_pipeline(write_base(tmp_path), device="cpu", **options)


def test_folders_of_nothing_known_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(ValueError, match="is a OtherPipeline; expected one of MimicMotionPipeline"):
        load_pipeline(tmp_path)
    with pytest.raises(OSError, match="no model folder"):
        load_pipeline(tmp_path / "nothing")


def test_every_family_is_where_its_record_says():
    for name, family in FAMILIES.items():
        assert family.name == name
        assert family.pipeline_class().__name__ == family.pipeline_name
        assert family.task_class().__name__.endswith("Task")


def test_two_families_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"mimicmotion .* is known already"):
        register(Family(name="mimicmotion", pipeline="elsewhere:OtherPipeline"))


def test_a_folder_without_released_weights_names_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"animate_anyone: denoising_unet\.pth"):
        load_pipeline("bundled:mini", checkpoint=tmp_path)


def test_a_vae_that_the_family_does_not_take_is_refused(tmp_path):
    with pytest.raises(ValueError, match="vae is given, but MimicMotionPipeline uses the base's VAE"):
        load_pipeline(write_base(tmp_path), checkpoint=CHECKPOINT, vae=tmp_path, device="cpu")
