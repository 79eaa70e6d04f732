"""The promises of a MagicAnimate run, with tiny networks of random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.magic_animate.tiny import tiny_pipeline
from mimic.sampling.fusion import FUSIONS
from tests.tiny import random_image, random_poses

SIZE, NUM_FRAMES = 32, 7


@pytest.fixture(scope="module")
def pipe() -> MagicAnimatePipeline:
    return tiny_pipeline(height=SIZE, width=SIZE, seed=1)


def run(pipe: MagicAnimatePipeline, **arguments: Any) -> Tensor:
    defaults: dict[str, Any] = {
        "image_pose": random_poses(NUM_FRAMES, SIZE, SIZE),
        "tile_size": 4,
        "tile_overlap": 2,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(3),
    }
    image = arguments.pop("image", random_image(SIZE, SIZE))
    return pipe(image, **{**defaults, **arguments}).frames


def test_every_output_type_has_as_many_frames_as_maps(pipe) -> None:
    assert run(pipe).shape == (1, NUM_FRAMES, 4, SIZE // 4, SIZE // 4)
    frames = run(pipe, output_type="np", num_frames=3)
    assert frames.shape == (1, 3, SIZE, SIZE, 3)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert len(run(pipe, output_type="pil", num_frames=2)[0]) == 2


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_any_fusion_works_and_all_agree_where_windows_do(pipe, fusion: str) -> None:
    latents = run(pipe, fusion=fusion)
    assert torch.isfinite(latents).all()
    one = run(pipe, fusion=fusion, num_frames=4)
    torch.testing.assert_close(one, run(pipe, fusion="average", num_frames=4))


@pytest.mark.slow
def test_seeds_decide_and_maps_and_reference_count(pipe) -> None:
    first = run(pipe)
    assert torch.equal(first, run(pipe))
    assert not torch.equal(first, run(pipe, generator=torch.Generator().manual_seed(4)))
    assert not torch.equal(first, run(pipe, image_pose=random_poses(NUM_FRAMES, SIZE, SIZE, seed=9)))
    assert not torch.equal(first, run(pipe, image=random_image(SIZE, SIZE, seed=9)))
    assert not torch.equal(first, run(pipe, control_scale=0.0))
    torch.testing.assert_close(run(pipe, control_scale=0.0), run(pipe, image_pose=None, num_frames=NUM_FRAMES,
                                                                   height=SIZE, width=SIZE))  # fmt: skip


def test_noise_is_one_windows_drawn_with_time_behind_the_channels(pipe) -> None:
    drawn = torch.randn(1, 4, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(3))
    given = run(pipe, latents=drawn.transpose(1, 2))
    assert torch.equal(run(pipe), given)
    repeated = drawn.transpose(1, 2)[:, [0, 1, 2, 3, 0, 1, 2]]
    assert torch.equal(run(pipe, latents=repeated), given)


def test_each_video_of_a_batch_equals_its_own_run(pipe) -> None:
    seeds = [5, 6]
    images = [random_image(SIZE, SIZE, seed=seed) for seed in seeds]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    together = run(pipe, image=images, generator=generators)
    for i, seed in enumerate(seeds):
        alone = run(pipe, image=images[i], generator=torch.Generator().manual_seed(seed))
        assert torch.equal(together[i : i + 1], alone)


def test_networks_run_as_often_as_they_must(pipe, monkeypatch) -> None:
    """The appearance encoder once a step, the ControlNet once a frame and step, whatever the windows."""
    calls: dict[str, int] = {"appearance_encoder": 0, "controlnet": 0, "unet": 0}
    hooks = [
        getattr(pipe, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
        for name in calls
    ]
    try:
        run(pipe)
        assert calls == {"appearance_encoder": 2, "controlnet": 2 * NUM_FRAMES, "unet": 2 * 4}
        calls.update(dict.fromkeys(calls, 0))
        run(pipe, batch_guidance=False)
        assert calls == {"appearance_encoder": 2, "controlnet": 2 * NUM_FRAMES, "unet": 2 * 4 * 2}
        calls.update(dict.fromkeys(calls, 0))
        run(pipe, guidance_scale=1.0)
        assert calls["unet"] == 2 * 4
        monkeypatch.setattr(pipe, "residual_budget_mb", 0.0)
        expected = run(pipe)
        assert calls["controlnet"] > 2 * NUM_FRAMES
    finally:
        for hook in hooks:
            hook.remove()
    monkeypatch.undo()
    assert torch.equal(run(pipe), expected)


@pytest.mark.slow
def test_a_bank_rounded_to_float16_changes_little(pipe) -> None:
    exact = run(pipe, num_frames=4, image_pose=random_poses(16, SIZE, SIZE))
    assert exact.shape[1] == 4
    maps = random_poses(16, SIZE, SIZE)
    right, released = run(pipe, image_pose=maps), run(pipe, image_pose=maps, compat="released")
    assert right.shape == released.shape
    full = torch.randn(1, 16, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(0))
    right, released = (run(pipe, image_pose=maps, latents=full, compat=c) for c in ("none", "released"))
    assert not torch.equal(right, released)
    torch.testing.assert_close(right, released, atol=1e-2, rtol=1e-2)


def test_released_noise_is_of_sixteen_frames_whatever_the_window(pipe) -> None:
    drawn = torch.randn(1, 4, 16, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(3))
    maps = random_poses(16, SIZE, SIZE)
    given = run(pipe, image_pose=maps, compat="released", latents=drawn.transpose(1, 2))
    assert torch.equal(run(pipe, image_pose=maps, compat="released"), given)


def test_callbacks_see_steps_and_can_stop(pipe) -> None:
    seen: list[int] = []

    def stop(pipe: Any, step: int, _t: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(step)
        pipe._interrupt = True
        return tensors

    run(pipe, num_inference_steps=3, callback_on_step_end=stop)
    assert seen == [0]


def test_drawn_maps_are_taken_as_they_are_drawn(pipe) -> None:
    maps = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    tensor = torch.from_numpy(maps).permute(0, 3, 1, 2) / 127.5 - 1
    expected = run(pipe, image_pose=tensor)
    assert torch.equal(run(pipe, image_pose=maps), expected)
    drawn = run(pipe, image_pose=lambda frames: maps[frames], num_frames=NUM_FRAMES)
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": NUM_FRAMES + 1}, "image_pose has 7 frames, num_frames is 8"),
        ({"height": 30}, "multiples of 4"),
        ({"fusion": "mean"}, "fusion is 'mean'"),
        ({"windows": "open"}, "windows is 'open'"),
        ({"compat": "old"}, "compat is 'old'"),
        ({"compat": "released"}, "num_frames is 7; compat: released supports only multiples of 16"),
        ({"tile_overlap": 4}, "smaller than the window"),
        (
            {"tile_size": 25, "image_pose": random_poses(30, SIZE, SIZE)},
            "has 24 positions; use tile_size: 24",
        ),
        ({"latents": torch.zeros(1, 5, 4, 8, 8)}, r"expected 1 videos x 4 or 7 frames x 4 x 8 x 8"),
        ({"prompt_embeds": torch.zeros(1, 2, 8)}, r"prompt_embeds is \[1, 2, 8\]; expected 1 x tokens x 32"),
        ({"image_pose": random_poses(7, SIZE, SIZE) * 200}, r"they have to be in \[-1, 1\]"),
        ({"image_pose": None}, "num_frames is not given"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(pipe, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)
