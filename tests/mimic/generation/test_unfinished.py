"""An interrupted render continues where it stopped and ends in the same bytes as an undisturbed one."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mimic.dancers.write import synth
from mimic.families.registry import FAMILIES
from mimic.generation import generate
from mimic.generation.result import GenerateResult
from mimic.generation.saving_budget import SavingBudget
from mimic.generation.step_state import StepState, UnknownStateError
from mimic.generation.unfinished import KeptFrames
from mimic.video import VideoWriteError, VideoWriter
from tests.dancers import Stage
from tests.tiny import quiet

SIZE, NUM_FRAMES, STEPS = 32, 4, 3
SETTINGS: dict[str, Any] = {
    "sample_stride": 1, "align": "robust", "num_inference_steps": STEPS, "tile_size": 3, "tile_overlap": 1,
    "guidance_scale": 1.0, "decode_chunk_size": 2, "max_frames": NUM_FRAMES, "is_progress_shown": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def part_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    synth(folder, num_clips=1, seconds=1, fps=8, height=64, width=64, densepose=True)
    return folder / "clip_0000.densepose.mp4"


@pytest.fixture(scope="module", params=FAMILIES)
def render(request: pytest.FixtureRequest, stage: Stage, part_maps: Path) -> Any:
    """Renders a clip with one of the families: ``render(output, identity=…)``."""
    pipeline = quiet(FAMILIES[request.param].tiny_pipeline(height=SIZE, width=SIZE, seed=0))
    pipeline.generation_defaults["canvas_short_side"] = 256
    is_skeleton = pipeline.driven_by == "skeleton"

    def run(output: Path, *, identity: str | None = "one", **settings: Any) -> GenerateResult:
        return generate(
            stage.reference,
            stage.driving_poses if is_skeleton else part_maps,
            pipeline=pipeline,
            output=output,
            reference_pose=stage.reference_pose if is_skeleton else None,
            identity=identity,
            **(SETTINGS | {"height": SIZE, "width": SIZE} | settings),
        )

    run.pipeline = pipeline
    return run


@contextmanager
def stopped_after(module: nn.Module, num_calls: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Raise at the call after `num_calls` of a network; yields the list of calls."""
    calls: list[int] = []

    def count(*_: Any) -> None:
        if len(calls) == num_calls:
            raise error("stopped")
        calls.append(1)

    handle = module.register_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def undisturbed(render: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int, int]:
    """Bytes of the video, calls of the denoiser and calls of the decoder of an undisturbed run."""
    pipeline = render.pipeline
    with (
        stopped_after(pipeline.denoiser, -1, KeyError) as steps,
        stopped_after(pipeline.vae.decoder, -1, KeyError) as chunks,
    ):
        result = render(tmp_path_factory.mktemp("undisturbed") / "a.mp4", identity=None)
    return result.path.read_bytes(), len(steps), len(chunks)


def test_an_interrupted_render_continues_and_ends_in_the_same_bytes(
    render: Any, undisturbed: tuple[bytes, int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video, num_calls, num_decoded = undisturbed
    pipeline, output = render.pipeline, tmp_path / "a.mp4"
    caplog.set_level(logging.INFO, "mimic")
    logging.getLogger("mimic").propagate = True
    in_last_step = num_calls * (STEPS - 1) // STEPS + 1
    with (
        pytest.raises(KeyboardInterrupt),
        stopped_after(pipeline.denoiser, in_last_step, KeyboardInterrupt),
    ):
        render(output)
    assert [path.name for path in tmp_path.iterdir()] == ["a.unfinished"]
    assert "denoising step 2 of 3 saved in" in caplog.text

    # Picture VAEs decode frame by frame: a call for each frame. The last chunk is interrupted.
    with (
        pytest.raises(RuntimeError),
        stopped_after(pipeline.vae.decoder, num_decoded - 1, RuntimeError),
        stopped_after(pipeline.denoiser, -1, KeyError) as calls,
    ):
        render(output)
    assert len(calls) == num_calls // STEPS
    assert "continuing an interrupted run (denoising step 2 of 3)" in caplog.text
    assert "decoded frames saved in" in caplog.text

    with (
        stopped_after(pipeline.denoiser, 0, KeyError),
        stopped_after(pipeline.vae.decoder, -1, KeyError) as decoded,
    ):
        result = render(output)
    assert 1 <= len(decoded) < num_decoded
    assert json.loads(result.report.read_text())["resumed"].endswith("decoded frames")
    assert result.path.read_bytes() == video
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4"]


@pytest.mark.parametrize("render", ["mimicmotion"], indirect=True)
def test_the_state_of_another_identity_is_not_used_and_not_removed(
    render: Any, undisturbed: tuple[bytes, int, int], tmp_path: Path
) -> None:
    output = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), stopped_after(render.pipeline.denoiser, 3, KeyboardInterrupt):
        render(output, identity="another", seed=5)
    (other,) = (tmp_path / "a.unfinished").iterdir()
    with stopped_after(render.pipeline.denoiser, -1, KeyError) as calls:
        result = render(output)
    assert (len(calls), result.path.read_bytes()) == (undisturbed[1], undisturbed[0])
    assert [path.name for path in other.iterdir()] == ["denoising.safetensors"]
    assert "latents" in load_file(other / "denoising.safetensors")


@pytest.mark.parametrize("render", ["mimicmotion"], indirect=True)
def test_a_video_that_cannot_be_written_leaves_the_frames_to_the_next_run(
    render: Any, undisturbed: tuple[bytes, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.mp4"

    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(VideoWriteError, match="no space is left"):
        patch.setattr(VideoWriter, "_finish", full)
        render(output)
    with stopped_after(render.pipeline.denoiser, 0, KeyError):
        assert render(output).path.read_bytes() == undisturbed[0]


@pytest.mark.parametrize("render", ["mimicmotion"], indirect=True)
def test_damaged_files_of_the_state_are_not_used(
    render: Any, undisturbed: tuple[bytes, int, int], tmp_path: Path
) -> None:
    output = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), stopped_after(render.pipeline.vae.decoder, 1, KeyboardInterrupt):
        render(output)
    for path in tmp_path.glob("a.unfinished/*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    assert render(output).path.read_bytes() == undisturbed[0]


SCHEDULERS = {
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "DDIMScheduler": {},
    "DDPMScheduler": {},
    "PNDMScheduler": {},
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepScheduler": {"algorithm_type": "sde-dpmsolver++"},
    "DPMSolverSinglestepScheduler": {},
    "UniPCMultistepScheduler": {},
    "LCMScheduler": {},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_continues_as_if_nothing_had_happened(name: str) -> None:
    kind = getattr(diffusers, name)

    def begin() -> tuple[Any, torch.Generator, torch.Tensor, dict[str, Any]]:
        scheduler, generator = kind(**SCHEDULERS[name]), torch.Generator().manual_seed(0)
        scheduler.set_timesteps(6)
        latents = torch.randn(1, 2, 4, 4, generator=generator) * scheduler.init_noise_sigma
        takes = "generator" in kind.step.__code__.co_varnames
        return scheduler, generator, latents, {"generator": generator} if takes else {}

    def step(scheduler: Any, t: torch.Tensor, latents: torch.Tensor, arguments: dict[str, Any]) -> Any:
        predicted = torch.tanh(scheduler.scale_model_input(latents, t))
        return scheduler.step(predicted, t, latents, **arguments).prev_sample

    scheduler, generator, latents, arguments = begin()
    before, states = dict(vars(scheduler)), []
    for number, t in enumerate(scheduler.timesteps, start=1):
        latents = step(scheduler, t, latents, arguments)
        state = StepState.after_step(latents, number, 6, scheduler, generator, before=before)
        states.append(state.as_tensors())
    for tensors, about in states:
        scheduler, generator, _, arguments = begin()
        state = StepState.from_tensors(tensors, json.loads(json.dumps(about)))
        state.restore(scheduler, generator, torch.device("cpu"))
        resumed = state.latents
        for t in scheduler.timesteps[state.num_done :]:
            resumed = step(scheduler, t, resumed, arguments)
        assert torch.equal(resumed, latents), state.num_done


def test_a_scheduler_with_an_unknown_object_is_refused() -> None:
    scheduler = diffusers.EulerDiscreteScheduler()
    before = dict(vars(scheduler))
    scheduler.noise_sampler = object()
    state = StepState.after_step(torch.zeros(1), 1, 2, scheduler, None, before=before)
    with pytest.raises(UnknownStateError, match="noise_sampler is a object"):
        state.as_tensors()


def test_saving_takes_at_most_its_share_of_the_time() -> None:
    now = [0.0]
    budget, num_saved = SavingBudget(share=0.1, clock=lambda: now[0]), 0
    for _ in range(100):  # steps of a second, each saved in half a second if allowed
        now[0] += 1
        if budget.allows_another():
            with budget():
                now[0] += 0.5
            num_saved += 1
    assert num_saved > 10
    assert budget.spent_s <= 0.1 * now[0]


def test_saved_frames_come_back_in_order_and_only_to_their_identity(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 6, 8, 3), dtype=np.uint8)
    kept = KeptFrames(tmp_path, "one", SavingBudget(share=1e9))
    for chunk in (frames[:2], frames[2:5], frames[5:8]):
        kept.keep(chunk)
    again = KeptFrames(tmp_path, "one", SavingBudget())
    assert (again.num_chunks, again.num_frames) == (3, 8)
    assert np.array_equal(np.stack(list(again.read())), frames[:8])
    assert KeptFrames(tmp_path, "other", SavingBudget()).num_chunks == 0
    again.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("render", ["mimicmotion"], indirect=True)
@pytest.mark.parametrize("change", ["lost", "short"])
def test_a_state_whose_generator_is_damaged_is_not_used(
    render: Any, undisturbed: tuple[bytes, int, int], tmp_path: Path, change: str
) -> None:
    output = tmp_path / "a.mp4"
    in_last_step = undisturbed[1] * (STEPS - 1) // STEPS + 1
    with (
        pytest.raises(KeyboardInterrupt),
        stopped_after(render.pipeline.denoiser, in_last_step, KeyboardInterrupt),
    ):
        render(output)
    (path,) = tmp_path.glob("a.unfinished/*/denoising.safetensors")
    content, tensors = path.read_bytes(), load_file(path)
    notes = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    own = tensors.pop("generator.0")
    save_file(tensors if change == "lost" else {**tensors, "generator.0": own[:7]}, path, metadata=notes)
    assert render(output).path.read_bytes() == undisturbed[0]
