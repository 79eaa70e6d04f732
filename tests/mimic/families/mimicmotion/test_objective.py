"""The EDM objective against its closed forms and against diffusers' scheduler."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from mimic.families.amplification import amplify
from mimic.families.mimicmotion import objective

SIGMAS = torch.tensor([0.05, 0.4, 1.0, 7.0, 300.0])


def latents(seed: int) -> torch.Tensor:
    return torch.randn(len(SIGMAS), 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_preconditioning_is_table_one_with_unit_data():
    assert torch.allclose(objective.c_skip(SIGMAS), 1 / (SIGMAS**2 + 1))
    assert torch.allclose(objective.c_out(SIGMAS), -SIGMAS / torch.sqrt(SIGMAS**2 + 1))
    assert torch.allclose(objective.c_in(SIGMAS) ** 2, objective.c_skip(SIGMAS))
    assert torch.allclose(objective.c_noise(SIGMAS), SIGMAS.log() / 4)
    product = objective.loss_weight(SIGMAS) * objective.c_out(SIGMAS) ** 2
    assert torch.allclose(product, torch.ones(5), rtol=1e-5)


def test_sigma_is_log_normal():
    generator = torch.Generator().manual_seed(0)
    logs = objective.sample_sigma(200_000, P_mean=0.7, P_std=1.6, generator=generator).log()
    assert logs.mean().item() == pytest.approx(0.7, abs=0.02)
    assert logs.std().item() == pytest.approx(1.6, abs=0.02)


@pytest.mark.parametrize("index", range(8))
def test_denoised_is_what_the_scheduler_calls_the_original_sample(index):
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
        timestep_type="continuous", timestep_spacing="leading", steps_offset=1, beta_schedule="scaled_linear",
    )  # fmt: skip
    scheduler.set_timesteps(8)
    sigma, t = scheduler.sigmas[index], scheduler.timesteps[index]
    noisy, output = latents(1) * (1 + sigma), latents(2)
    scheduler.scale_model_input(noisy, t)
    expected = scheduler.step(output, t, noisy).pred_original_sample
    got = objective.denoised(output, noisy, sigma.repeat(len(noisy)))
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(1 + sigma) / 10)
    assert objective.c_noise(sigma).item() == pytest.approx(t.item(), abs=1e-5)


def test_a_perfect_output_has_no_loss_and_a_constant_error_its_closed_form():
    x0 = latents(3)
    assert objective.edm_loss(x0, x0, SIGMAS).item() == 0
    loss = objective.edm_loss(x0 + 0.5, x0, SIGMAS)
    assert loss.item() == pytest.approx(((1 + SIGMAS**2) / SIGMAS**2).mean().item() * 0.25, rel=1e-4)


def test_amplification_of_one_changes_no_bit():
    x0, guess = latents(4), latents(5)
    mask = torch.ones(len(SIGMAS), 3, 1, 5, 6)
    factor = amplify({"hands": mask}, {"hands": 1.0})
    plain = objective.edm_loss(guess, x0, SIGMAS)
    assert torch.equal(objective.edm_loss(guess, x0, SIGMAS, amplification=factor), plain)


def test_regions_are_amplified_by_their_factor_and_overlaps_by_the_larger():
    hands, face = torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)
    hands[..., 0, :] = 1
    face[..., :, 0] = 1
    factor = amplify({"hands": hands, "face": face}, {"hands": 10.0, "face": 3.0})
    assert factor[0, 0, 0].tolist() == [[10.0, 10.0], [3.0, 1.0]]
    with pytest.raises(KeyError, match="feet"):
        amplify({"hands": hands}, {"feet": 2.0})


def test_no_factor_gives_the_plain_loss_bit_for_bit():
    x0, guess = latents(4), latents(5)
    plain = objective.edm_loss(guess, x0, SIGMAS)
    assert torch.equal(objective.edm_loss(guess, x0, SIGMAS, amplification=amplify({}, {})), plain)


def test_the_loss_of_a_region_is_that_of_its_own_pixels():
    x0, guess, mask = latents(6), latents(7), torch.zeros(len(SIGMAS), 3, 1, 5, 6)
    mask[..., :2, :3] = 1
    inside = objective.edm_loss(guess[..., :2, :3], x0[..., :2, :3], SIGMAS)
    assert torch.allclose(objective.region_loss(guess, x0, SIGMAS, mask), inside)
    assert objective.region_loss(guess, x0, SIGMAS, torch.zeros_like(mask)).item() == 0


def test_conditions_are_left_out_at_their_rates_together_or_each_by_itself():
    shares, generator = {"pose": 0.5, "reference": 0.5}, torch.Generator().manual_seed(0)

    def rates(together):
        drawn = [objective.sample_keeps(shares, together=together, generator=generator) for _ in range(4000)]
        dropped = torch.tensor([[1 - keep[name] for name in shares] for keep in drawn])
        return [*dropped.mean(0).tolist(), dropped.prod(1).mean().item()]

    assert rates(together=True) == pytest.approx([0.5, 0.5, 0.5], abs=0.04)
    assert rates(together=False) == pytest.approx([0.5, 0.5, 0.25], abs=0.04)
    condition = torch.ones(2, 3, 4)
    assert objective.drop(condition, torch.tensor([1.0, 0.0])).sum((1, 2)).tolist() == [12.0, 0.0]


def test_noise_of_the_reference_is_log_normal_where_there_is_any():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [
            objective.sample_noise_aug(share=0.5, P_mean=-3, P_std=0.5, generator=generator)
            for _ in range(6000)
        ]
    )
    logs = drawn[drawn > 0].log()
    assert (drawn > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert logs.mean().item() == pytest.approx(-3, abs=0.05)
    assert logs.std().item() == pytest.approx(0.5, abs=0.03)
    pixels, noise = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    noisy = objective.augment_reference(pixels, noise, torch.tensor([0.0, 0.25]))
    assert noisy.amax((1, 2, 3)).tolist() == [0.0, 0.25]
    ids = objective.added_time_ids(torch.tensor([0.0, 0.25]), fps=7, motion_bucket_id=127)
    assert ids.tolist() == [[6.0, 127.0, 0.0], [6.0, 127.0, 0.25]]


def test_amplification_multiplies_the_error_of_its_pixels():
    x0, error, factor = latents(0), latents(1), torch.full((5, 3, 1, 5, 6), 4.0)
    plain = objective.edm_loss(x0 + error, x0, SIGMAS)
    torch.testing.assert_close(objective.edm_loss(x0 + error, x0, SIGMAS, amplification=factor), 4 * plain)


def test_random_numbers_are_the_generators():
    def drawn() -> list[float]:
        generator = torch.Generator().manual_seed(3)
        draws = [
            objective.sample_noise_aug(share=0.5, P_mean=-3.0, P_std=0.5, generator=generator)
            for _ in range(8)
        ]
        keeps = objective.sample_keeps({"a": 0.5, "b": 0.5}, together=False, generator=generator)
        sigma = objective.sample_sigma(3, P_mean=0.7, P_std=1.6, generator=generator)
        return [*map(float, draws), *map(float, keeps.values()), *sigma.tolist()]

    assert drawn() == drawn()


def test_noise_of_the_reference_is_scaled_and_added():
    pixels, noise = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    strength = torch.tensor([0.0, 0.5])
    noisy = objective.augment_reference(pixels, noise, strength)
    assert torch.equal(noisy[0], pixels[0])
    torch.testing.assert_close(noisy[1], pixels[1] + 0.5 * noise[1])


def test_time_ids_are_those_of_svd_on_the_device_of_the_noise():
    ids = objective.added_time_ids(torch.tensor([0.1, 0.2]), fps=7, motion_bucket_id=127)
    torch.testing.assert_close(ids, torch.tensor([[6.0, 127.0, 0.1], [6.0, 127.0, 0.2]]))
    elsewhere = objective.added_time_ids(torch.zeros(2, device="meta"), fps=7, motion_bucket_id=127)
    assert elsewhere.device.type == "meta"
