"""A training ends in the same bytes however often it is interrupted, and tells what goes wrong."""

import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.families.registry import FAMILIES, load_pipeline
from mimic.training.loop import TrainingError, train
from mimic.training.settings import learning_rate
from mimic.training.setup import check_folder
from mimic.training.state import StateError, checkpoints
from mimic.video import probe
from tests.mimic.training.small import (
    Said,
    digests,
    finish,
    log_of,
    losses_of,
    small_settings,
    start,
    train_here,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = train(small_settings(folder), say=Said())
    assert outcome.step == 6
    assert outcome.final == folder / "final"
    return folder


def test_a_training_leaves_log_checkpoints_and_a_model_that_loads(undisturbed):
    assert [line["step"] for line in log_of(undisturbed)] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "terms", "lr", "grad_norm", "clips_per_s", "skipped"} <= set(log_of(undisturbed)[0])
    assert [path.name for path in checkpoints(undisturbed)] == ["checkpoint-4", "checkpoint-6"]
    assert not list(undisturbed.glob(".*")), "nothing half-written stays"
    pipe = load_pipeline(str(undisturbed / "final"))
    single = load_file(undisturbed / "final" / "mimicmotion.safetensors")
    for part in ("unet", "pose_net"):
        for name, tensor in getattr(pipe, part).state_dict().items():
            assert torch.equal(single[f"{part}.{name}"], tensor), name
    average = load_file(undisturbed / "checkpoint-6" / "average.safetensors")
    assert torch.equal(average["unet.conv_in.weight"], single["unet.conv_in.weight"]), "the average is final"


def test_going_on_from_a_checkpoint_gives_the_bytes_and_losses_of_an_undisturbed_run(undisturbed, tmp_path):
    train(small_settings(tmp_path, max_steps=3), say=Said())
    (tmp_path / "log.jsonl").open("a").write('{"step": 4, "loss": 0.0}\n{"step": 5, "lo')
    said = Said()
    train(small_settings(tmp_path), say=said)
    assert digests(tmp_path / "final") == digests(undisturbed / "final")
    assert losses_of(tmp_path) == losses_of(undisturbed)
    assert f"going on from {tmp_path / 'checkpoint-3'}" in str(said)
    assert "changed since" not in str(said)


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_and_the_rest_gives_the_same_bytes(undisturbed, tmp_path, name):
    said = Said()

    def say(line: str) -> None:
        said(line)
        if line.startswith("step 3/"):
            signal.raise_signal(signal.Signals[name])

    before = signal.getsignal(signal.Signals[name])
    outcome = train(small_settings(tmp_path), say=say)
    assert signal.getsignal(signal.Signals[name]) == before
    assert (outcome.step, outcome.final, outcome.stopped_by) == (4, None, name)
    assert f"stopped by {name} after step 4" in str(said)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-4"
    train(small_settings(tmp_path), say=Said())
    assert digests(tmp_path / "final") == digests(undisturbed / "final")


def kill_until_done(folder: Path, *, num_kills: int, seed: int, seconds: float) -> list[str]:
    """Start the training again and again and kill it at random moments, at most `seconds` after each start;
    what was there at each kill. A training that is done before all kills is begun anew elsewhere."""
    rng = np.random.default_rng(seed)
    there: list[str] = []
    while True:
        process = start(train_here, small_settings(folder))
        if len(there) < num_kills:
            process.join(rng.uniform(0, seconds))
        if process.is_alive() and len(there) < num_kills:
            process.kill()
            process.join()
            there.append(" ".join(sorted(path.name for path in folder.glob("*"))) or "nothing")
            continue
        assert finish([process]) == [0]
        if len(there) == num_kills:
            return there
        shutil.rmtree(folder)


@pytest.mark.slow  # test_saving.py kills while a checkpoint is written
def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(undisturbed, tmp_path):
    start_of = time.monotonic()
    assert finish([start(train_here, small_settings(tmp_path / "measured"))]) == [0]
    assert digests(tmp_path / "measured" / "final") == digests(undisturbed / "final"), (
        "in another process too"
    )
    seconds = time.monotonic() - start_of
    assert len(kill_until_done(tmp_path / "killed", num_kills=2, seed=0, seconds=seconds)) == 2
    assert digests(tmp_path / "killed" / "final") == digests(undisturbed / "final")
    assert losses_of(tmp_path / "killed") == losses_of(undisturbed)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(undisturbed, tmp_path):
    start_of = time.monotonic()
    assert finish([start(train_here, small_settings(tmp_path / "measured"))]) == [0]
    seconds = time.monotonic() - start_of
    there = kill_until_done(tmp_path / "killed", num_kills=10, seed=1, seconds=seconds)
    print(f"undisturbed in {seconds:.0f} s; killed when there was:", *there, sep="\n  ")
    assert len(there) == 10
    assert digests(tmp_path / "killed" / "final") == digests(undisturbed / "final")
    assert losses_of(tmp_path / "killed") == losses_of(undisturbed)


@pytest.mark.slow
def test_passes_that_accumulate_give_the_losses_of_one_pass(undisturbed, tmp_path):
    train(small_settings(tmp_path, max_steps=4, accumulate=2), say=Said())
    assert losses_of(tmp_path) == pytest.approx(losses_of(undisturbed)[:4], abs=1e-5)


def test_several_references_of_each_clip_train_alike_in_one_pass_and_in_two(undisturbed, tmp_path):
    for folder, accumulate in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        data = {"references": 3}
        train(small_settings(folder, max_steps=2, accumulate=accumulate, data=data), say=Said())
    assert losses_of(tmp_path / "one") == pytest.approx(losses_of(tmp_path / "two"), abs=1e-5)
    assert losses_of(tmp_path / "one") != losses_of(undisturbed)[:2]


def test_a_cache_holds_one_reference_of_each_clip_and_says_so(tmp_path):
    with pytest.raises(
        ValueError, match=r"data\.references is 2, and memory\.cache holds the embedding of one"
    ):
        small_settings(tmp_path, data={"references": 2}, memory={"cache": tmp_path / "cache"})


@pytest.mark.slow
def test_checkpointed_and_chunked_networks_and_data_workers_change_no_loss(undisturbed, tmp_path):
    changes = {
        "gradient_checkpointing": True,
        "memory": {"chunk_frames": 1, "offload_activations": True},
        "num_workers": 1,
    }
    train(small_settings(tmp_path, max_steps=3, **changes), say=Said())
    assert losses_of(tmp_path) == pytest.approx(losses_of(undisturbed)[:3], abs=1e-5)


@pytest.mark.slow
def test_half_precision_trains_float_weights(undisturbed, tmp_path):
    train(small_settings(tmp_path, max_steps=3, precision="bf16"), say=Said())
    losses = losses_of(tmp_path)
    assert losses == pytest.approx(losses_of(undisturbed)[:3], rel=0.1)
    assert losses != losses_of(undisturbed)[:3]
    weights = load_file(tmp_path / "checkpoint-3" / "weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.slow
def test_the_8_bit_optimiser_goes_on_as_if_it_had_never_stopped(tmp_path):
    pytest.importorskip("bitsandbytes")
    options = {"name": "adamw_8bit", "learning_rate": 1e-3}
    train(small_settings(tmp_path / "whole", max_steps=4, optimiser=options), say=Said())
    train(small_settings(tmp_path / "parts", max_steps=2, optimiser=options), say=Said())
    train(small_settings(tmp_path / "parts", max_steps=4, optimiser=options), say=Said())
    assert digests(tmp_path / "parts" / "final") == digests(tmp_path / "whole" / "final")
    state = load_file(tmp_path / "whole" / "checkpoint-4" / "optimiser.safetensors")
    assert torch.uint8 in {tensor.dtype for tensor in state.values()}


@pytest.mark.slow
def test_latents_from_a_cache_train_alike(undisturbed, tmp_path):
    memory = {"cache": tmp_path / "cache"}
    train(small_settings(tmp_path / "run", max_steps=3, memory=memory), say=Said())
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(undisturbed)[:3], abs=1e-4)
    assert list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_low_rank_differences_train_alone_and_leave_merged(tmp_path):
    pytest.importorskip("peft")
    train(
        small_settings(tmp_path, max_steps=2, lora={"rank": 2}, optimiser={"learning_rate": 0.1}),
        say=Said(),
    )
    weights = load_file(tmp_path / "checkpoint-2" / "weights.safetensors")
    assert weights
    assert all(".lora_" in name for name in weights)
    assert (tmp_path / "final" / "lora.safetensors").is_file()
    pipe = load_pipeline(str(tmp_path / "final"))
    start_of = MimicMotionTask.tiny_pipeline(height=32, width=32, seed=0).unet.state_dict()
    changed = [
        name for name, tensor in pipe.unet.state_dict().items() if not torch.equal(tensor, start_of[name])
    ]
    assert changed
    assert all(".to_" in name for name in changed)


def test_validation_makes_videos_and_keeps_the_best_checkpoint(tmp_path):
    said = Said()
    settings = small_settings(
        tmp_path,
        max_steps=5,
        validation={"every": 1, "num_clips": 1, "best_by": "psnr"},
        checkpoints={"every": 1, "keep": 1},
        tensorboard=True,
    )
    train(settings, say=said)
    has_tensorboard = find_spec("tensorboard") is not None
    assert has_tensorboard == bool(list((tmp_path / "tensorboard").glob("events*")))
    assert has_tensorboard != ("no curves for TensorBoard" in str(said))
    figures = [line["validation"]["psnr"] for line in log_of(tmp_path)]
    assert len(figures) == 5
    best = figures.index(max(figures)) + 1
    assert [path.name for path in checkpoints(tmp_path)] == sorted({f"checkpoint-{best}", "checkpoint-5"})
    info = probe(tmp_path / "validation" / "step-000005.mp4")
    assert (info.height, info.width) == (32, 4 * 32 + 3 * 2)
    assert {"psnr", "ssim"} <= set(log_of(tmp_path)[0]["validation"])
    assert "validation after step 5" in str(said)


class Poisoned(MimicMotionTask):
    """MimicMotion, but the noise level of some samples is not a number."""

    def draw(self, sample, generator):
        draws = super().draw(sample, generator)
        if "-0001 " in sample.key:
            draws["sigma"] = torch.full_like(draws["sigma"], float("nan"))
        return draws


@pytest.fixture
def _poisoned(monkeypatch):
    poisoned = replace(FAMILIES["mimicmotion"], name="poisoned", task=f"{__name__}:Poisoned")
    monkeypatch.setitem(FAMILIES, "poisoned", poisoned)


@pytest.mark.usefixtures("_poisoned")
def test_steps_without_a_finite_loss_are_skipped_and_counted(tmp_path):
    settings = small_settings(
        tmp_path, family="poisoned", batch_size=1, max_steps=3, optimiser={"learning_rate": 1e-3},
        checkpoints={"every": 1, "keep": 9},
    )  # fmt: skip
    train(settings, say=Said())
    log = log_of(tmp_path)
    skipped = [line["step"] for line in log if line["loss"] is None]
    assert len(skipped) == 1, "three clips in three steps, one of them poisoned"
    assert log[-1]["skipped"] == 1
    assert "-0001 " in log[skipped[0] - 1]["skipped_clips"][0]
    for step in (2, 3):
        before, after = (
            load_file(tmp_path / f"checkpoint-{number}" / "weights.safetensors")
            for number in (step - 1, step)
        )
        is_same = all(torch.equal(before[name], after[name]) for name in before)
        assert is_same == (step in skipped)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())


@pytest.mark.usefixtures("_poisoned")
def test_too_many_of_them_in_a_row_end_the_training_with_what_was_in_the_batch(tmp_path):
    settings = small_settings(tmp_path, family="poisoned", batch_size=3, max_skipped=2)
    with pytest.raises(TrainingError, match=r"step 2: loss nan.* 2 steps in a row.*train-0001 "):
        train(settings, say=Said())
    assert len(log_of(tmp_path)) == 2


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(tmp_path):
    said = Said()
    outcome = train(small_settings(tmp_path / "run", accumulate=2), is_dry_run=True, say=said)
    assert outcome.final is None
    assert not (tmp_path / "run").exists()
    for text in (
        "parameters",
        "of them trained (unet",
        "memory of each process",
        "effective batch 2: 1 process x 2 passes x 1 clip of",
    ):
        assert text in str(said)


def test_numbers_that_fail_late_are_no_settings(tmp_path):
    with pytest.raises(ValueError, match=r"optimiser\.betas\.0\n  Input should be less than 1"):
        small_settings(tmp_path, optimiser={"betas": [2, 5]})
    with pytest.raises(ValueError, match=r"validation\.seed\n  Input should be less than"):
        small_settings(tmp_path, validation={"seed": 2**70})
    with pytest.raises(ValueError, match=r"validation\.fps\n  Input should be greater than"):
        small_settings(tmp_path, validation={"fps": 1e-9})


def test_settings_that_cannot_be_are_told_before_any_step(undisturbed, tmp_path):
    def refused(match: str, folder: Path = tmp_path, **changes) -> None:
        with pytest.raises(ConfigError, match=match):
            train(small_settings(folder, **changes), say=Said())

    refused("set resume: auto", undisturbed, resume="never")
    refused("with other settings of what is trained", undisturbed, trainable=["pose_net"])
    refused("fp16, which needs a CUDA device", precision="fp16")
    refused("latent_downscale is 8, this model's VAE has 4", data={"latent_downscale": 8})
    if find_spec("bitsandbytes") is None:
        refused("needs bitsandbytes", optimiser={"name": "adamw_8bit"})
    refused("objective.*P_men", objective={"P_men": 1})
    assert not checkpoints(tmp_path)


@pytest.mark.slow
def test_a_changed_setting_is_told_when_a_run_goes_on(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "checkpoint-4", tmp_path / "checkpoint-4")
    said = Said()
    train(small_settings(tmp_path, max_steps=5, clip_norm=0.5), say=said)
    assert "changed since then: clip_norm: 1.0 → 0.5" in str(said)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match=r"output_dir .* cannot be written"):
        train(small_settings(tmp_path / "file" / "run"), say=Said())


def test_a_refused_training_leaves_no_empty_folder(tmp_path):
    settings = small_settings(tmp_path / "runs" / "mine")
    absent = settings.model_copy(update={"model": str(tmp_path / "nothere")})
    with pytest.raises(ConfigError, match="nothere"):
        train(absent, say=Said())
    assert list(tmp_path.iterdir()) == []


def test_a_torch_without_cuda_beside_an_nvidia_device_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setattr("mimic.training.setup.missing_cuda", lambda: "torch is built without CUDA")
    said = Said()
    train(small_settings(tmp_path), is_dry_run=True, say=said)
    if not torch.cuda.is_available():
        assert str(said).splitlines()[0] == "note: torch is built without CUDA"


def test_no_folder_for_temporary_files_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    with pytest.raises(StateError, match="set TMPDIR to one that can"):
        train(small_settings(tmp_path / "run", num_workers=1), say=Said())
    check_folder(tmp_path / "run", needs_temporary=False)


def train_on_a_full_disk(folder: Path, allowed_bytes: int) -> None:
    """No file may grow beyond `allowed_bytes`: writing fails as it does on a full disk, at another errno."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed_bytes, allowed_bytes))
    try:
        train(small_settings(folder), say=Said())
    except StateError as error:
        (folder / "said").write_text(str(error))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a POSIX matter")
def test_a_full_disk_leaves_the_last_checkpoint_and_the_training_goes_on_from_it(undisturbed, tmp_path):
    train(small_settings(tmp_path, max_steps=2), say=Said())
    assert finish([start(train_on_a_full_disk, tmp_path, 100_000)]) == [0]
    assert "checkpoint-4 could not be written" in (tmp_path / "said").read_text()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2"]
    assert not list(tmp_path.glob(".*"))
    train(small_settings(tmp_path), say=Said())
    assert digests(tmp_path / "final") == digests(undisturbed / "final")


def test_rates_of_a_schedule(tmp_path):
    settings = small_settings(
        tmp_path,
        max_steps=12,
        schedule={"name": "cosine", "warmup_steps": 2, "final_share": 0.1},
        optimiser={"learning_rate": 1.0},
    )
    rates = [learning_rate(settings, step) for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)
    constant = small_settings(tmp_path, optimiser={"learning_rate": 1.0}, schedule={})
    assert [learning_rate(constant, step) for step in (0, 5)] == [1.0, 1.0]
