"""Metrics of single pictures, against scikit-image, torchmetrics and their definitions."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mimic.metrics.image import (
    EQUAL_PSNR,
    grey,
    l1,
    l1_disco_divided_by_area,
    mean_squared_error,
    psnr,
    psnr_disco_uint8_overflow,
    ssim,
)

torchmetrics = pytest.importorskip("torchmetrics.functional.image")


def pair(seed: int, height: int = 37, width: int = 52, spread: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and a disturbed one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (5 + c) + y / 9) * np.cos(y / (7 - c)) for c in range(3)]
    truth = np.stack(waves, -1).clip(0, 255).astype(np.uint8)
    noisy = (truth.astype(int) + rng.integers(-spread, spread + 1, truth.shape)).clip(0, 255)
    return noisy.astype(np.uint8), truth


@pytest.mark.parametrize("seed", range(3))
def test_psnr_is_that_of_scikit_image_and_torchmetrics(seed):
    made, truth = pair(seed)
    assert psnr(made, truth) == pytest.approx(peak_signal_noise_ratio(truth, made, data_range=255), abs=1e-9)
    theirs = torchmetrics.peak_signal_noise_ratio(
        torch.from_numpy(made).double(), torch.from_numpy(truth).double(), data_range=255.0
    )
    assert psnr(made, truth) == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_ssim_is_that_of_scikit_image_on_greyscale(seed):
    made, truth = pair(seed)
    expected = structural_similarity(grey(made), grey(truth))
    assert ssim(made, truth) == pytest.approx(expected, abs=1e-9)
    assert ssim(grey(made), grey(truth)) == pytest.approx(expected, abs=1e-9)
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_ssim_is_that_of_torchmetrics_with_uniform_windows_inside_the_picture():
    made, truth = pair(3)
    both = [torch.from_numpy(grey(p)).double()[None, None] for p in (made, truth)]
    theirs = torchmetrics.structural_similarity_index_measure(
        *both, gaussian_kernel=False, kernel_size=7, data_range=255.0, return_full_image=True
    )[1][0, 0]
    # torchmetrics 1.4 has a rim around the picture here.
    border = 3 + (theirs.shape[0] - len(made)) // 2
    theirs = theirs[border:-border, border:-border]
    # torchmetrics divides by the number of pixels, not by one less: a little apart, and no more than that.
    assert ssim(made, truth) == pytest.approx(float(theirs.mean()), abs=2e-3)


def test_l1_is_a_share_of_the_range():
    assert l1(np.full((4, 4, 3), 51, np.uint8), np.zeros((4, 4, 3), np.uint8)) == pytest.approx(0.2)


def test_l1_of_the_disco_script_depends_on_the_resolution():
    made, truth = pair(4, 32, 32)
    expected = np.mean(np.absolute(made.astype("float") - truth.astype("float")) / float(32 * 32))
    assert l1_disco_divided_by_area(made, truth) == pytest.approx(expected, rel=1e-12)
    double = [np.repeat(np.repeat(p, 2, 0), 2, 1) for p in (made, truth)]
    assert l1_disco_divided_by_area(*double) == pytest.approx(expected / 4, rel=1e-12)
    assert l1(*double) == pytest.approx(l1(made, truth))


def test_overflowed_psnr_is_what_bytes_give_and_too_high():
    made, truth = pair(5, spread=120)
    wrapped = np.array(
        [((int(a) - int(b)) % 256) ** 2 % 256 for a, b in zip(made.ravel(), truth.ravel(), strict=True)]
    )
    expected = 20 * np.log10(255.0 / np.sqrt(wrapped.mean()))
    assert psnr_disco_uint8_overflow(made, truth) == pytest.approx(expected, abs=1e-9)
    assert psnr_disco_uint8_overflow(made, truth) > psnr(made, truth) + 8
    assert psnr_disco_uint8_overflow(truth, truth) == EQUAL_PSNR
    with pytest.raises(ValueError, match="uint8"):
        psnr_disco_uint8_overflow(made.astype(float), truth.astype(float))


@pytest.mark.parametrize("metric", [mean_squared_error, psnr, l1, ssim, psnr_disco_uint8_overflow])
def test_pictures_of_two_sizes_are_an_error(metric):
    with pytest.raises(ValueError, match="must be equal"):
        metric(np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8))


def test_ssim_of_a_picture_below_its_window_is_an_error():
    with pytest.raises(ValueError, match="7 x 7"):
        ssim(np.zeros((6, 20, 3), np.uint8), np.zeros((6, 20, 3), np.uint8))
