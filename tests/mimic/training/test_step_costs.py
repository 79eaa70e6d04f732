"""Nothing is encoded, searched or held twice, and a run says what it needs before it starts."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from mimic.cli.main import main as run_command
from mimic.config.loading import ConfigError
from mimic.training import run as run_module
from mimic.training.engine import make_accelerator, make_optimiser
from mimic.training.loop import train
from mimic.training.main import settings_of
from mimic.training.policy import cast_frozen, resolve
from mimic.training.tasks import make_task
from tests.mimic.data.prepared import make_prepared
from tests.mimic.training.small import Said, small_settings

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "train").glob("*.yaml"))
OF_GPUS = [path for path in CONFIGS if "GPU" in path.read_text("utf-8").partition("# Hardware:")[2][:40]]


def test_the_configs_of_gpus_are_those_of_the_released_models():
    named = {path.stem for path in OF_GPUS}
    assert named == {
        "mimicmotion_paper", "mimicmotion_72_frames", "mimicmotion_lora_24gb", "animate_anyone_stage1",
        "animate_anyone_stage2", "magic_animate_stage1", "magic_animate_stage2",
    }  # fmt: skip


@pytest.mark.parametrize("path", OF_GPUS, ids=lambda path: path.stem)
def test_trainings_on_gpus_encode_each_frame_once_and_in_bf16(path):
    settings = settings_of(path)
    assert settings.memory.cache is not None
    assert resolve(settings, torch.device("cuda")).frozen == torch.bfloat16


def test_on_a_gpu_pictures_are_encoded_in_bf16_several_together(tmp_path):
    settings = small_settings(tmp_path, precision="bf16")
    policy, task = resolve(settings, torch.device("cuda")), make_task(settings)
    cast_frozen(task, policy, is_divided=False)
    task.encoded_together = policy.encoded_together
    seen = []
    task.frozen["vae"].encoder.register_forward_pre_hook(
        lambda _, inputs: seen.append((len(inputs[0]), inputs[0].dtype))
    )
    task.encode_pictures(torch.zeros(10, 3, 32, 32))
    assert seen == [(4, torch.bfloat16), (4, torch.bfloat16), (2, torch.bfloat16)]
    assert resolve(settings, torch.device("cpu")).encoded_together == 1, "the same bits in every batch"


def test_several_processes_search_for_no_unused_parameters_and_keep_gradients_once(tmp_path):
    options = make_accelerator(small_settings(tmp_path)).ddp_handler
    assert options.find_unused_parameters is False
    assert options.gradient_as_bucket_view is True


def test_a_trained_layer_that_the_loss_does_not_reach_ends_the_first_step(tmp_path):
    settings = small_settings(
        tmp_path, family="animate_anyone", trainable=["reference_unet.*"], objective={"stage": 1},
        data={"height": 64, "width": 64, "num_frames": 1},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"trainable: the loss does not depend on reference_unet\..*leave"):
        train(settings, say=Said())
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_fused_optimiser_of_gpus_steps_as_the_other(tmp_path):
    settings = small_settings(tmp_path, optimiser={"learning_rate": 0.1, "weight_decay": 0.3})
    stepped = []
    for is_fused in (False, True):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimiser = make_optimiser(dict(layer.named_parameters()), settings, is_fused=is_fused)
        assert {bool(group["fused"]) for group in optimiser.param_groups} == {is_fused}
        for _ in range(2):
            layer(torch.ones(3)).sum().backward()
            optimiser.step()
        stepped.append(layer.weight.detach())
    torch.testing.assert_close(*stepped)


Disk = namedtuple("Disk", "total used free")


def test_a_dry_run_says_what_shared_memory_is_needed_and_whether_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "SHARED_MEMORY", tmp_path)
    settings = small_settings(tmp_path / "run", num_workers=2)
    for free, told in ((10**9, "for 2 processes that load clips)"), (1000, "a larger --shm-size, or lower")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Disk(free, 0, free))
        said = Said()
        train(settings, is_dry_run=True, say=said)
        (line,) = [line for line in said if line.startswith("shared memory of each process: ")]
        assert told in line
    assert not (tmp_path / "run").exists()


def on_a_video(folder: Path, *more: str) -> list[str]:
    """The command of a training on a prepared video."""
    data = make_prepared(folder, clips_of_videos={"a.mp4": [(0, 8)]})
    own = next(path for path in CONFIGS if path.stem == "mimicmotion_mini_own")
    return [
        "train", "--config", str(own), "model=tiny", f"data.path={data}", f"output_dir={folder / 'run'}",
        "batch_size=1", "max_steps=1", "validation.every=0", "validation.at_start=false", "data.num_frames=2",
        "data.height=32", "data.width=32", "data.canvas_short_side=64", "data.reference_margin=0", *more,
    ]  # fmt: skip


def test_a_training_on_videos_says_how_many_frames_have_a_hand(tmp_path, capsys):
    assert run_command([*on_a_video(tmp_path), "--dry-run"]) == 0
    assert "% of the frames have a hand mask (data.hand_threshold 0.8)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_video_that_a_loading_process_cannot_read_ends_the_command_with_one_sentence(tmp_path, capsys):
    command = on_a_video(tmp_path, "num_workers=1")
    (tmp_path / "videos" / "a.mp4").write_text("no video any more")
    assert run_command(command) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.mp4" in line
