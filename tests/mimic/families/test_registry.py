import pytest
import torch

from mimic import MimicMotionPipeline, load_pipeline
from mimic.families.registry import FAMILIES
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
        ({}, "plain Stable Video Diffusion, which knows no poses; give a MimicMotion checkpoint"),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_pipeline(write_base(tmp_path), device="cpu", **options)


def test_folders_of_nothing_known_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(ValueError, match="is a OtherPipeline; known are MimicMotionPipeline"):
        load_pipeline(tmp_path)
    with pytest.raises(OSError, match="no model folder"):
        load_pipeline(tmp_path / "nothing")


def test_every_family_is_where_the_registry_says():
    import importlib

    for name, module in FAMILIES.items():
        assert hasattr(importlib.import_module(module), name)
