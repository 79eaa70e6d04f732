from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from mimic.sampling import guidance
from mimic.sampling.denoise import NotFiniteError, denoise
from mimic.sampling.fusion import FUSIONS, fusion_weights
from mimic.sampling.noise import repeat_along_time
from mimic.sampling.windows import reference_windows, sliding_windows
from tests.tiny import GOLDENS, golden_json


class FusedPrediction:
    """A scheduler whose step hands back the prediction it gets."""

    def scale_model_input(self, latents, t):
        return latents

    def step(self, prediction, t, latents):
        return SimpleNamespace(prev_sample=prediction)


def euler(num_steps):
    scheduler = EulerDiscreteScheduler.from_pretrained(GOLDENS / "config" / "scheduler")
    scheduler.set_timesteps(num_steps)
    return scheduler


def run(predict, latents, windows, mode="released", scheduler=None, **arguments):
    scheduler = scheduler or euler(3)
    return denoise(
        predict,
        latents,
        scheduler=scheduler,
        timesteps=getattr(scheduler, "timesteps", [torch.tensor(0.0)]),
        windows=windows,
        weights=fusion_weights(windows, mode),
        **arguments,
    )


def test_guided_and_blended_predictions_are_the_released_ones():
    for row in golden_json("tiles")["rows"]:
        num_frames, tile_size = row["num_frames"], row["tile_size"]
        scales = guidance.ramp(row["min_guidance_scale"], row["max_guidance_scale"], num_frames)
        windows = reference_windows(num_frames, tile_size, row["tile_overlap"])
        calls = iter(range(1, len(windows) + 1))

        def predict(latents, t, frames, calls=calls, scales=scales):
            k = next(calls)
            position = torch.arange(len(frames)).view(1, -1, 1, 1, 1)
            conditional = (k + 0.1 * position).expand_as(latents)
            unconditional = (0.25 * k + 0.1 * position).expand_as(latents)
            return guidance.guide(unconditional, conditional, scales[frames])

        fused = run(predict, torch.zeros(1, num_frames, 1, 1, 1), windows, scheduler=FusedPrediction())
        torch.testing.assert_close(
            fused.flatten(), torch.tensor(row["guided_prediction"]), atol=1e-5, rtol=1e-6
        )
        noise = repeat_along_time(torch.arange(tile_size).view(1, -1, 1, 1, 1), num_frames)
        assert noise.flatten().tolist() == row["noise_frame_of_output_frame"]


def test_scheduler_tables_are_the_recorded_ones():
    for num_steps, table in golden_json("scheduler_tables").items():
        scheduler = euler(int(num_steps))
        torch.testing.assert_close(scheduler.timesteps, torch.tensor(table["timesteps"]), atol=0, rtol=1e-6)
        torch.testing.assert_close(scheduler.sigmas, torch.tensor(table["sigmas"]), atol=0, rtol=1e-6)
        assert float(scheduler.init_noise_sigma) == pytest.approx(table["init_noise_sigma"])


@pytest.mark.parametrize("mode", sorted(FUSIONS))
def test_a_model_that_looks_at_single_frames_does_not_see_the_windows(mode):
    latents = torch.randn(1, 23, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    frames_of_their_own = torch.linspace(-1, 1, 23).view(1, -1, 1, 1, 1)

    def predict(latents, t, frames):
        return latents.tanh() + frames_of_their_own[:, frames] * t

    whole = run(predict, latents, [list(range(23))], mode)
    in_windows = run(predict, latents, reference_windows(23, 7, 3), mode)
    torch.testing.assert_close(in_windows, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", sorted(FUSIONS))
@pytest.mark.parametrize("scheduler_class", [EulerDiscreteScheduler, DDIMScheduler])
def test_fusing_predictions_is_fusing_stepped_latents(mode, scheduler_class):
    windows = sliding_windows(14, 6, 3)
    weights = fusion_weights(windows, mode)
    latents = torch.randn(1, 14, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def predict(latents, t, frames):
        return latents * (1 + frames[0])  # depends on the window

    options = {"clip_sample": False} if scheduler_class is DDIMScheduler else {}
    scheduler = scheduler_class(prediction_type="v_prediction", **options)
    scheduler.set_timesteps(4)
    fused = run(predict, latents, windows, mode, scheduler, is_interrupted=lambda: True)

    stepped = torch.zeros_like(latents)
    for frames, weight in zip(windows, weights, strict=True):
        scheduler.set_timesteps(4)
        t = scheduler.timesteps[0]
        prediction = predict(scheduler.scale_model_input(latents, t)[:, frames], t, frames)
        new = scheduler.step(prediction, t, latents[:, frames]).prev_sample
        stepped[:, frames] += weight.float().view(1, -1, 1, 1, 1) * new
    torch.testing.assert_close(fused, stepped, atol=1e-5, rtol=1e-5)


def test_the_order_of_windows_does_not_matter():
    windows = reference_windows(23, 7, 3)
    latents = torch.randn(1, 23, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def predict(latents, t, frames):
        return latents * (1 + frames[1] / 10)

    forwards, backwards = run(predict, latents, windows), run(predict, latents, windows[::-1])
    torch.testing.assert_close(forwards, backwards, atol=1e-5, rtol=1e-5)


def test_a_callback_sees_each_step_replaces_latents_and_can_stop():
    latents = torch.ones(1, 4, 1, 1, 1)
    seen = []

    def after_step(i, t, latents):
        seen.append((i, float(t)))
        return torch.full_like(latents, 5.0 + i)

    scheduler = euler(4)
    result = run(
        lambda x, t, f: torch.zeros_like(x),
        latents,
        [[0, 1, 2, 3]],
        scheduler=scheduler,
        after_step=after_step,
        is_interrupted=lambda: len(seen) == 2,
    )
    assert seen == [(0, float(scheduler.timesteps[0])), (1, float(scheduler.timesteps[1]))]
    assert torch.equal(result, torch.full_like(latents, 6.0))


def test_half_precision_predictions_are_summed_in_float32():
    latents = torch.randn(1, 9, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    result = run(lambda x, t, f: x.half(), latents, reference_windows(9, 4, 2))
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_end_the_run_with_the_step(value):
    calls = iter(range(3))

    def predict(latents, t, frames):
        prediction = torch.zeros_like(latents)
        if next(calls) == 1:
            prediction[0, 2] = value
        return prediction

    told = r"the latents after step 2 of 3 hold 4 of 16 numbers that are not finite .*float16.*guidance_scale"
    with pytest.raises(NotFiniteError, match=told):
        run(predict, torch.zeros(1, 4, 1, 2, 2), [[0, 1, 2, 3]])


def test_those_that_share_windows_are_told_the_form_of_each_prediction():
    told = []

    def share(num_windows, compute, like):
        for number in range(num_windows):
            prediction = compute(number)
            told.append((like(number), (tuple(prediction.shape), prediction.dtype, prediction.device)))
            yield prediction

    latents = torch.zeros(2, 7, 3, 4, 5)
    run(lambda x, t, f: x, latents, [[0, 1, 2, 3], [3, 4, 5, 6, 0]], share=share)
    assert [shape for (shape, _, _), _ in told][:2] == [(2, 4, 3, 4, 5), (2, 5, 3, 4, 5)]
    assert all(like == prediction for like, prediction in told)
