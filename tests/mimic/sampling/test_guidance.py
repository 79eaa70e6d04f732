import torch
from hypothesis import given
from hypothesis import strategies as st

from mimic.sampling import guidance


def test_scale_one_is_the_conditional_prediction_and_zero_the_other():
    conditional, unconditional = torch.rand(2, 1, 3, 1, 2, 2)
    scales = torch.tensor([1.0, 0.0, 3.0])
    guided = guidance.guide(unconditional, conditional, scales)
    torch.testing.assert_close(guided[:, 0], conditional[:, 0])
    torch.testing.assert_close(guided[:, 1], unconditional[:, 1])
    torch.testing.assert_close(guided[:, 2], 3 * conditional[:, 2] - 2 * unconditional[:, 2])


@given(st.floats(-1, 20), st.floats(-1, 20), st.integers(1, 50))
def test_a_ramp_goes_from_the_first_to_the_last_or_is_off(first, last, num_frames):
    scales = guidance.ramp(first, last, num_frames)
    assert scales.shape == (num_frames,)
    if max(first, last) <= 1:
        assert not guidance.is_needed(scales)
    else:
        torch.testing.assert_close(scales[0], torch.tensor(first))
        if num_frames > 1:
            torch.testing.assert_close(scales[-1], torch.tensor(last))
            assert ((scales >= min(first, last) - 1e-5) & (scales <= max(first, last) + 1e-5)).all()


def test_a_scale_of_one_needs_no_unconditional_pass_and_any_other_does():
    assert not guidance.is_needed(torch.ones(4))
    assert guidance.is_needed(guidance.ramp(2.0, 2.0, 4))


def test_the_result_has_the_precision_of_the_predictions():
    conditional, unconditional = torch.rand(2, 1, 3, 1, 2, 2).half()
    assert guidance.guide(unconditional, conditional, torch.tensor([1.0, 0.0, 3.0])).dtype == torch.float16
