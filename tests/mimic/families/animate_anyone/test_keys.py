"""Released weights go in completely, or an error says what is wrong."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimic import AnimateAnyonePipeline, load_pipeline
from mimic.families.animate_anyone.keys import build_on_meta, num_positions, released_state
from mimic.models.pose_guider import PaperPoseGuider
from mimic.weights.motion_keys import is_motion_key, to_diffusers, to_released
from mimic.weights.strict import WeightsError, load_strictly
from tests.mimic.families.animate_anyone.miniature import (
    modules,
    own,
    pipeline,
    recorded_json,
    released_files,
    write_base,
    write_released,
)

SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
PREFIXES = ("denoising_unet.", "reference_unet.", "pose_guider.")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("sd") / "base")


def full_size():
    """The released keys as tensors without memory."""
    return {
        key: torch.empty(shape, device="meta") for key, (shape, _) in recorded_json("keys_fullsize").items()
    }


def test_every_key_of_the_full_size_model_has_its_place():
    state = full_size()
    assert [sum(key.startswith(prefix) for key in state) for prefix in PREFIXES] == [1274, 682, 16]
    parts = {
        prefix: {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        for prefix in PREFIXES
    }
    denoising = to_diffusers(parts["denoising_unet."], source="released")
    networks = build_on_meta(
        SD15,
        num_positions=num_positions(denoising, source="released"),
        has_motion_in_middle=True,
        pose_guider=parts["pose_guider."],
    )
    load_strictly({"": networks["unet"]}, denoising, source="released")
    load_strictly({"": networks["reference_unet"]}, parts["reference_unet."], source="released")
    load_strictly({"": networks["pose_guider"]}, parts["pose_guider."], source="released")
    # Two tables of positions in each released motion module are one here, and two again on the way back.
    assert len(parts["denoising_unet."]) - len(denoising) == 21
    assert to_released(denoising).keys() == parts["denoising_unet."].keys()
    assert networks["pose_guider"].config.channels == (16, 32, 96, 256)


def test_released_files_make_the_recorded_pipeline(base, tmp_path):
    pipe = AnimateAnyonePipeline.from_original(base, write_released(tmp_path))
    for name, module in modules().items():
        loaded = pipe.components[name].state_dict()
        assert loaded.keys() == module.state_dict().keys()
        assert all(torch.equal(loaded[key], value) for key, value in module.state_dict().items())
        assert not pipe.components[name].training
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.scheduler.alphas_cumprod[-1] == 0
    by_registry = load_pipeline(base, checkpoint=tmp_path, device="cpu", dtype="fp16")
    assert isinstance(by_registry, AnimateAnyonePipeline)
    assert by_registry.unet.dtype == torch.float16


def test_what_is_written_in_the_released_layout_is_what_was_read():
    files = released_files()
    written = released_state(modules())
    assert written.keys() == files.keys()
    for name, state in files.items():
        assert written[name].keys() == state.keys()
        assert all(torch.equal(written[name][key], value) for key, value in state.items())


def changed(**changes):
    return {**released_files(), **changes}


def without(name, key):
    return {name: {k: v for k, v in released_files()[name].items() if k != key}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"motion_module": {"conv.weight": torch.ones(1)}},
            r"holds no motion module: none of its 1 keys contains motion_modules",
        ),
        (
            {"motion_module": {"mid_block.motion_modules.0.odd": torch.ones(1)}},
            r"position tables of lengths \[\]",
        ),
        (without("denoising_unet", "conv_in.bias"), r"missing \(1\):\n    conv_in.bias"),
        (without("reference_unet", "conv_in.bias"), r"missing \(1\):\n    conv_in.bias"),
        (without("pose_guider", "conv_in.weight"), r"conv_in.weight"),
    ],
)
def test_weights_that_do_not_fit_are_told(base, tmp_path, changes, message):
    folder = write_released(tmp_path, changed(**changes))
    with pytest.raises(WeightsError, match=message):
        AnimateAnyonePipeline.from_original(base, folder)


def test_each_surplus_and_missing_key_of_a_motion_module_is_named(base, tmp_path):
    motion = released_files()["motion_module"]
    key = next(key for key in motion if key.endswith("to_q.weight"))
    motion[key.replace("to_q", "to_x")] = motion.pop(key)
    folder = write_released(tmp_path, changed(motion_module=motion))
    with pytest.raises(WeightsError, match=r"missing \(1\)(.|\n)*to_q(.|\n)*surplus \(1\)(.|\n)*to_x"):
        AnimateAnyonePipeline.from_original(base, folder)


def test_tables_of_positions_that_differ_are_told(base, tmp_path):
    motion = released_files()["motion_module"]
    key = next(key for key in motion if key.endswith("attention_blocks.1.pos_encoder.pe"))
    motion[key] = motion[key] + 1
    folder = write_released(tmp_path, changed(motion_module=motion))
    with pytest.raises(WeightsError, match="differs from the other table of positions"):
        AnimateAnyonePipeline.from_original(base, folder)


def test_files_that_are_not_there_are_told(base, tmp_path):
    files = released_files()
    unet_alone = {name: state for name, state in files.items() if name != "motion_module"}
    with pytest.raises(
        WeightsError, match=r"without which frames are unrelated; put the released motion_mod"
    ):
        AnimateAnyonePipeline.from_original(base, write_released(tmp_path / "a", unet_alone))
    del unet_alone["reference_unet"]
    with pytest.raises(OSError, match=r"has no reference_unet\.pth; give the folder with denoising_unet"):
        AnimateAnyonePipeline.from_original(base, write_released(tmp_path / "b", unet_alone))
    with pytest.raises(OSError, match="there is no model folder"):
        AnimateAnyonePipeline.from_original(base, tmp_path / "none")
    with pytest.raises(OSError, match=r"not found: .*unet/config\.json"):
        AnimateAnyonePipeline.from_original(tmp_path / "a", write_released(tmp_path / "c"))


def test_motion_modules_may_be_in_the_unets_file_and_must_not_contradict(base, tmp_path):
    files = released_files()
    whole = {**files["denoising_unet"], **files["motion_module"]}
    one_file = {**files, "denoising_unet": whole}
    AnimateAnyonePipeline.from_original(base, write_released(tmp_path / "same", one_file))
    one_file["motion_module"] = {key: value + 1 for key, value in files["motion_module"].items()}
    with pytest.raises(WeightsError, match=r"both hold .* keep one of the two"):
        AnimateAnyonePipeline.from_original(base, write_released(tmp_path / "other", one_file))


def test_a_guider_as_in_the_paper_is_known_by_its_keys(base, tmp_path):
    guider = PaperPoseGuider(32, channels=(4, 8, 8, 16))
    folder = write_released(tmp_path, changed(pose_guider=guider.state_dict()))
    loaded = AnimateAnyonePipeline.from_original(base, folder).pose_guider
    assert isinstance(loaded, PaperPoseGuider)
    assert loaded.config.channels == (4, 8, 8, 16)


@pytest.mark.parametrize("part", ["vae", "image_encoder"])
def test_parts_of_the_base_load_strictly(base, tmp_path, part):
    copy = shutil.copytree(base, tmp_path / "base")
    (file,) = (copy / part).glob("*.safetensors")
    (copy / part / "old.bin").write_bytes(b"a backup")
    released = write_released(tmp_path / "released")
    AnimateAnyonePipeline.from_original(copy, released)
    state = load_file(file)
    lost = sorted(state)[0]
    del state[lost]
    file.unlink()
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"missing \(1\):\n    {lost}"):
        AnimateAnyonePipeline.from_original(copy, released)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    pipe = pipeline()
    pipe.generation_defaults = {"tile_size": 6}
    pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu")
    assert isinstance(loaded, AnimateAnyonePipeline)
    assert loaded.generation_defaults == {"tile_size": 6}
    for name, module in modules().items():
        state = loaded.components[name].state_dict()
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    assert loaded.unet.config.residual_norms == "frame"
    assert any(is_motion_key(key) for key in own("denoising_unet"))
