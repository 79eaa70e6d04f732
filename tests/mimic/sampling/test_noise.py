import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimic.sampling.noise import draw_noise, frames_to_draw, repeat_along_time

CPU = torch.device("cpu")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 12), st.integers(1, 60))
def test_frame_f_starts_from_noise_f_mod_t(drawn, num_frames):
    noise = torch.arange(drawn).view(1, -1, 1, 1, 1)
    assert repeat_along_time(noise, num_frames).flatten().tolist() == [f % drawn for f in range(num_frames)]


def test_what_is_drawn_by_mode():
    assert frames_to_draw(40, 16, "window") == 16
    assert frames_to_draw(10, 16, "window") == 10
    assert frames_to_draw(40, 16, "full") == 40
    assert frames_to_draw(40, 16, "shared") == 1
    with pytest.raises(ValueError, match="use one of window, full, shared"):
        frames_to_draw(40, 16, "pink")


def test_a_seed_gives_the_same_noise_and_a_list_gives_each_item_its_own():
    shape = (2, 3, 4, 5, 6)
    first = draw_noise(shape, seeded(1), device=CPU, dtype=torch.float32)
    assert torch.equal(first, draw_noise(shape, seeded(1), device=CPU, dtype=torch.float32))
    both = draw_noise(shape, [seeded(1), seeded(2)], device=CPU, dtype=torch.float32)
    for item, seed in zip(both, (1, 2)):
        alone = draw_noise((1, *shape[1:]), seeded(seed), device=CPU, dtype=torch.float32)
        assert torch.equal(item, alone[0])


def test_noise_is_of_the_device_and_precision_asked_for():
    noise = draw_noise((1, 2), None, device=torch.device("meta"), dtype=torch.float64)
    assert (noise.device.type, noise.dtype, noise.shape) == ("meta", torch.float64, (1, 2))
