"""Fréchet distance: closed forms, SciPy, torchmetrics; running statistics against NumPy."""

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import torch

from mimic.metrics.frechet import RunningGaussian, distance_of, frechet_distance

torchmetrics_fid = pytest.importorskip("torchmetrics.image.fid")


def covariance(rng: np.random.Generator, width: int, num: int) -> np.ndarray:
    return np.cov(rng.normal(size=(num, width)) * rng.uniform(0.2, 3, width), rowvar=False)


def running(features: np.ndarray, batch: int) -> RunningGaussian:
    found = RunningGaussian()
    for start in range(0, len(features), batch):
        found.add(features[start : start + batch])
    return found


def test_distance_of_gaussians_with_commuting_covariances_is_the_closed_form():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = rng.uniform(0.1, 4, 6), rng.uniform(0.1, 4, 6)
    mean_a, mean_b = rng.normal(size=6), rng.normal(size=6)
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(mean_a, rotation * a @ rotation.T, mean_b, rotation * b @ rotation.T)
    assert found == pytest.approx(expected, rel=1e-10)


def test_distance_of_one_dimension_is_that_of_means_and_deviations():
    one = np.ones((1, 1))
    assert frechet_distance(np.zeros(1), 4 * one, np.full(1, 3.0), 9 * one) == pytest.approx(9 + 1)


@pytest.mark.parametrize("width", [3, 24])
def test_distance_is_that_of_scipys_matrix_root(width):
    rng = np.random.default_rng(width)
    a, b = covariance(rng, width, 400), covariance(rng, width, 400)
    mean_a, mean_b = rng.normal(size=width), rng.normal(size=width)
    root = scipy.linalg.sqrtm(a @ b)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(a + b - 2 * np.real(root))
    assert frechet_distance(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-8)


def test_distance_is_that_of_torchmetrics():
    rng = np.random.default_rng(1)
    a, b = covariance(rng, 8, 100), covariance(rng, 8, 100)
    mean_a, mean_b = rng.normal(size=8), rng.normal(size=8)
    expected = torchmetrics_fid._compute_fid(*(torch.from_numpy(x) for x in (mean_a, a, mean_b, b)))
    assert frechet_distance(mean_a, a, mean_b, b) == pytest.approx(float(expected), rel=1e-8)


def test_distance_to_itself_is_zero_also_with_fewer_features_than_their_width():
    few = running(np.random.default_rng(2).normal(size=(5, 40)), 2)
    assert distance_of(few, few) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_running_statistics_are_numpys_also_far_from_zero(batch):
    features = np.random.default_rng(3).normal(loc=1e6, size=(57, 4))
    found = running(features, batch)
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-7, atol=1e-9)


def test_ten_thousand_features_take_no_more_memory_than_a_hundred():
    def peak(num: int) -> int:
        rng, found = np.random.default_rng(4), RunningGaussian()
        tracemalloc.start()
        for _ in range(num // 10):
            found.add(rng.normal(size=(10, 64)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(10_000) < 1.2 * peak(100)


def test_what_cannot_be_is_an_error():
    found = RunningGaussian()
    with pytest.raises(ValueError, match="no features"):
        _ = found.mean
    found.add(np.zeros(3))
    with pytest.raises(ValueError, match="no covariance"):
        _ = found.covariance
    with pytest.raises(ValueError, match="4 values, those before 3"):
        found.add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="not finite"):
        found.add(np.full(3, np.nan))
    with pytest.raises(ValueError, match="different width"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
