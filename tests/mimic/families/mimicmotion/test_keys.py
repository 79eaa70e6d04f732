import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic import MimicMotionPipeline
from mimic.families.mimicmotion.keys import build_on_meta
from mimic.weights.parts import POSITION_IDS
from mimic.weights.strict import WeightsError, load_strictly
from tests.tiny import CHECKPOINT, golden_image, golden_json, golden_pipeline, quiet, random_poses, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def state():
    return torch.load(CHECKPOINT, weights_only=True)


@pytest.fixture
def saved(tmp_path):
    """A function that writes a checkpoint and gives its path."""

    def save(state):
        torch.save(state, tmp_path / "checkpoint.pth")
        return tmp_path / "checkpoint.pth"

    return save


def full_size(*prefixes):
    """The released keys as tensors without memory, float16."""
    return {
        key: torch.empty(shape, dtype=torch.float16, device="meta")
        for key, (shape, _) in golden_json("keys_fullsize").items()
        if key.startswith(prefixes)
    }


def full_size_modules():
    unet, pose_net = build_on_meta({"sample_size": 96, "num_frames": 25})
    with torch.device("meta"):
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1280,
                intermediate_size=5120,
                num_hidden_layers=32,
                num_attention_heads=16,
                patch_size=14,
                projection_dim=1024,
            )
        )
    return {"unet.": unet, "pose_net.": pose_net, "vae.": vae, "image_encoder.": image_encoder}


def test_every_key_of_the_full_size_model_has_its_place():
    modules = full_size_modules()
    state = full_size(*modules)
    assert len(state) == 1428 + 19 + 374 + 520
    load_strictly(modules, state, source="released", optional=[f"image_encoder.vision_model.{POSITION_IDS}"])
    assert sum(p.numel() for p in modules["unet."].parameters()) == 1_524_623_082
    assert sum(p.numel() for p in modules["pose_net."].parameters()) == 205_557
    assert {p.dtype for module in modules.values() for p in module.parameters()} == {torch.float16}


def test_a_position_buffer_of_older_clip_checkpoints_is_no_surplus():
    modules = {"image_encoder.": full_size_modules()["image_encoder."]}
    state = full_size("image_encoder.")
    state[f"image_encoder.vision_model.{POSITION_IDS}"] = torch.empty(1, 257, device="meta")
    load_strictly(modules, state, source="released", optional=[f"image_encoder.vision_model.{POSITION_IDS}"])


def test_each_full_size_key_that_is_missing_or_surplus_is_named():
    modules = {prefix: full_size_modules()[prefix] for prefix in ("unet.", "pose_net.")}
    state = full_size(*modules)
    lost = [key for key in state if ".attn2.to_k." in key][:3]
    for key in lost:
        state[key.replace("attn2", "attn3")] = state.pop(key)
    state["pose_net.scale"] = torch.empty(2, device="meta")
    with pytest.raises(WeightsError) as caught:
        load_strictly(modules, state, source="changed.pth")
    assert sorted(caught.value.mismatch.missing) == sorted(lost)
    assert sorted(caught.value.mismatch.surplus) == sorted(key.replace("attn2", "attn3") for key in lost)
    for text in (
        *lost,
        "changed.pth",
        "missing (3)",
        "surplus (3)",
        "pose_net.scale: found [2], expected [1]",
    ):
        assert text in str(caught.value)


def test_a_checkpoint_and_its_base_make_the_recorded_pipeline(base):
    pipe = MimicMotionPipeline.from_original(base, CHECKPOINT)
    expected = golden_pipeline()
    for name in ("unet", "pose_net", "vae", "image_encoder"):
        own, recorded = pipe.components[name].state_dict(), expected.components[name].state_dict()
        assert own.keys() == recorded.keys()
        assert all(torch.equal(own[key], recorded[key]) for key in own)
        tensors = [*pipe.components[name].parameters(), *pipe.components[name].buffers()]
        assert not any(tensor.is_meta for tensor in tensors)
        assert not pipe.components[name].training
    assert pipe.generation_defaults == {}


def test_half_precision_safetensors_and_the_fp16_files_of_a_base_do_as_well(tmp_path, state):
    base = write_base(tmp_path / "svd", variant="fp16")
    save_file(state, tmp_path / "checkpoint.safetensors")
    pipe = MimicMotionPipeline.from_original(base, tmp_path / "checkpoint.safetensors", dtype=torch.float16)
    assert {
        p.dtype
        for name in ("unet", "vae", "pose_net", "image_encoder")
        for p in pipe.components[name].parameters()
    } == {torch.float16}
    assert torch.equal(pipe.unet.conv_in.weight, state["unet.conv_in.weight"])


def test_what_was_put_together_can_be_saved_loaded_and_run(base, tmp_path):
    pipe = quiet(MimicMotionPipeline.from_original(base, str(CHECKPOINT)))
    pipe.save_pretrained(tmp_path)
    loaded = quiet(MimicMotionPipeline.from_pretrained(tmp_path))
    results = [
        each(
            golden_image(),
            random_poses(2, 64, 48),
            num_inference_steps=1,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames
        for each in (pipe, loaded)
    ]
    assert torch.equal(*results)


def test_of_the_base_only_the_config_of_the_unet_is_read(tmp_path):
    base = write_base(tmp_path)
    (base / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not to be read")
    MimicMotionPipeline.from_original(base, CHECKPOINT)


def test_a_prefix_of_distributed_training_is_removed_and_said(base, state, saved, caplog):
    caplog.set_level("INFO", "mimic")
    path = saved({f"module.{key}": value for key, value in state.items()})
    pipe = MimicMotionPipeline.from_original(base, path)
    assert torch.equal(pipe.unet.conv_in.weight, state["unet.conv_in.weight"].float())
    assert f"{path}: removed module. from {len(state)} of {len(state)} keys" in caplog.messages


def test_a_checkpoint_with_nan_is_refused(base, state, saved):
    broken = state["pose_net.final_proj.weight"].clone()
    broken[0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"NaN or infinite values in pose_net\.final_proj\.weight"):
        MimicMotionPipeline.from_original(base, saved({**state, "pose_net.final_proj.weight": broken}))


def test_a_dump_of_the_whole_model_replaces_the_parts_of_the_base(base, state, saved):
    vae, image_encoder = golden_pipeline().vae, golden_pipeline().image_encoder
    whole = {
        **state,
        **{f"vae.{key}": value + 1 for key, value in vae.state_dict().items()},
        **{f"image_encoder.{key}": value for key, value in image_encoder.state_dict().items()},
        f"image_encoder.vision_model.{POSITION_IDS}": torch.arange(50)[None],
    }
    pipe = MimicMotionPipeline.from_original(base, saved(whole))
    assert torch.equal(pipe.vae.quant_conv.weight, vae.quant_conv.weight + 1)
    del whole["vae.quant_conv.weight"]
    with pytest.raises(WeightsError, match=r"missing \(1\):\n    vae.quant_conv.weight"):
        MimicMotionPipeline.from_original(base, saved(whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("unet.conv_in.bias"), r"missing \(1\):\n    unet.conv_in.bias"),
        (lambda s: s.pop("pose_net.scale"), r"missing \(1\):\n    pose_net.scale"),
        (lambda s: s.update({"unet.extra": torch.ones(1)}), r"surplus \(1\):\n    unet.extra"),
        (lambda s: s.update({"step": torch.ones(1)}), r"surplus \(1\):\n    step"),
        (
            lambda s: s.update({"pose_net.final_proj.bias": torch.ones(7)}),
            r"wrong shape \(1\):\n    pose_net.final_proj.bias: found \[7\], expected \[32\]",
        ),
        (lambda s: s.clear(), "and [0-9]+ more"),
    ],
)
def test_what_does_not_fit_is_listed(base, state, saved, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(WeightsError, match=message):
        MimicMotionPipeline.from_original(base, saved(changed))


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler", "vae/diffusion_pytorch_model.safetensors"])
def test_an_incomplete_base_is_told(tmp_path, part):
    base = write_base(tmp_path)
    shutil.rmtree(base / part) if (base / part).is_dir() else (base / part).unlink()
    with pytest.raises(
        OSError, match=f"not found: .*{re.escape(str(Path(part)))}.* Give the folder of stabilityai/"
    ):
        MimicMotionPipeline.from_original(base, CHECKPOINT)


def test_an_incomplete_part_of_a_base_is_told(tmp_path):
    base = write_base(tmp_path)
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    own = golden_pipeline().vae.state_dict()
    del own["quant_conv.weight"]
    save_file(own, weights, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"quant_conv\.weight"):
        MimicMotionPipeline.from_original(base, CHECKPOINT)


def test_a_checkpoint_that_is_not_there_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(OSError, match="there is no checkpoint"):
        MimicMotionPipeline.from_original(tmp_path, tmp_path / "none.pth")


def test_a_saved_model_that_lost_weights_does_not_load(tmp_path):
    pipe = golden_pipeline()
    pipe.save_pretrained(tmp_path)
    own = pipe.pose_net.state_dict()
    del own["final_proj.bias"]
    save_file(own, tmp_path / "pose_net" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing \(1\):\n    final_proj.bias"):
        MimicMotionPipeline.from_pretrained(tmp_path)


def test_defaults_that_are_no_defaults_are_told(tmp_path):
    golden_pipeline().save_pretrained(tmp_path)
    (tmp_path / "mimic.json").write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"mimic\.json is not a JSON object"):
        MimicMotionPipeline.from_pretrained(tmp_path)
