"""Noise levels: those published, those in between, and those of a scheduler's steps."""

import math

import pytest
from diffusers import DDIMScheduler, DEISMultistepScheduler, EulerDiscreteScheduler, FlowMatchLCMScheduler
from diffusers.schedulers import AysSchedules

from mimic.sampling.schedules import aligned_sigmas, has_noise_levels, noise_levels

PUBLISHED = AysSchedules["StableDiffusionVideoSigmas"][:-1]


def test_ten_steps_have_the_published_levels():
    assert aligned_sigmas(10) == pytest.approx(PUBLISHED, rel=1e-12)
    assert aligned_sigmas(10, 700.0) == aligned_sigmas(10)


def test_levels_between_the_published_ones_are_geometric_means():
    levels = aligned_sigmas(19)
    assert levels[::2] == pytest.approx(PUBLISHED, rel=1e-9)
    for before, level, after in zip(PUBLISHED, levels[1::2], PUBLISHED[1:]):
        assert level == pytest.approx(math.sqrt(before * after), rel=1e-9)


def test_another_highest_level_stretches_the_logarithms_from_the_lowest():
    levels = aligned_sigmas(10, 80.0)
    assert levels[0] == pytest.approx(80.0)
    assert levels[-1] == pytest.approx(PUBLISHED[-1])
    lowest = math.log(PUBLISHED[-1])
    shares = [(math.log(level) - lowest) / (math.log(80.0) - lowest) for level in levels]
    own = [(math.log(level) - lowest) / (math.log(PUBLISHED[0]) - lowest) for level in PUBLISHED]
    assert shares == pytest.approx(own, abs=1e-9)


def test_levels_are_one_for_each_step_that_is_set():
    euler = EulerDiscreteScheduler()
    euler.set_timesteps(4)
    assert noise_levels(euler) == [float(sigma) for sigma in euler.sigmas[:4]]
    assert all(isinstance(level, float) for level in noise_levels(euler))


def test_a_scheduler_without_sigmas_has_the_ratio_of_noise_to_signal():
    ddim = DDIMScheduler(
        rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    ddim.set_timesteps(5)
    levels = noise_levels(ddim)
    assert levels[0] == math.inf
    for level, t in zip(levels[1:], ddim.timesteps[1:], strict=True):
        bar = float(ddim.alphas_cumprod[t])
        assert level == pytest.approx(math.sqrt((1 - bar) / bar))


def test_a_scheduler_without_a_table_is_told():
    class Bare:
        sigmas = alphas_cumprod = None

    assert not has_noise_levels(Bare())
    assert not has_noise_levels(object())
    assert has_noise_levels(DEISMultistepScheduler())
    assert has_noise_levels(FlowMatchLCMScheduler())
    with pytest.raises(ValueError, match=r"^Bare has no table of noise levels\.$"):
        noise_levels(Bare())
