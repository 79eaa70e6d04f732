"""A preset lowers the number of steps, never raises it, and leaves out what a scheduler does not take."""

import pytest

from mimic.sampling.presets import PRESETS, preset_settings


@pytest.mark.parametrize("takes_sigmas", [True, False])
def test_exact_changes_nothing(takes_sigmas):
    assert preset_settings("exact", {"num_inference_steps": 25}, takes_sigmas=takes_sigmas) == {}


def test_a_schedule_needs_a_scheduler_that_takes_noise_levels():
    whole = preset_settings("fast", {"num_inference_steps": 25}, takes_sigmas=True)
    assert whole == dict(PRESETS["fast"])
    without = preset_settings("fast", {"num_inference_steps": 25}, takes_sigmas=False)
    assert without == {name: value for name, value in whole.items() if name != "schedule"}
    assert preset_settings("exact", {}, takes_sigmas=False) == {}


@pytest.mark.parametrize(("own", "steps"), [(25, 15), (15, 15), (4, 4)])
def test_the_number_of_steps_is_never_raised(own, steps):
    chosen = preset_settings("balanced", {"num_inference_steps": own}, takes_sigmas=True)
    assert chosen["num_inference_steps"] == steps


def test_without_a_number_of_steps_the_presets_own_is_taken_and_the_table_stays():
    assert preset_settings("balanced", {}, takes_sigmas=True)["num_inference_steps"] == 15
    preset_settings("balanced", {"num_inference_steps": 2}, takes_sigmas=False)
    assert PRESETS["balanced"]["num_inference_steps"] == 15
    assert PRESETS["balanced"]["schedule"] == "aligned"
