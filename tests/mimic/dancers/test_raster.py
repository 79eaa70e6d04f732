import numpy as np
import pytest
from numpy.typing import NDArray

from mimic.dancers.raster import Solids, rasterise


def _nearest_depth(solids: Solids, height: int, width: int) -> NDArray[np.float64]:
    """The same by brute force: every solid as 250 ellipsoids, each met with a ray through every sample."""
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    depth = np.full((height, width), np.inf)
    for p in range(len(solids.ra)):
        shape = np.linalg.inv(solids.stretch[p, 0].astype(float))
        form = shape.T @ shape
        for t in np.linspace(0, 1, 250):
            centre = (1 - t) * solids.a[p, 0] + t * solids.b[p, 0]
            r = (1 - t) * solids.ra[p, 0] + t * solids.rb[p, 0]
            u, v = x - centre[0], y - centre[1]
            half_b = form[2, 0] * u + form[2, 1] * v
            c = form[0, 0] * u * u + 2 * form[0, 1] * u * v + form[1, 1] * v * v - r * r
            root = half_b**2 - form[2, 2] * c
            with np.errstate(invalid="ignore"):
                z = centre[2] + (-half_b - np.sqrt(root)) / form[2, 2]
            depth = np.where(root > 0, np.minimum(depth, z), depth)
    return depth


def _random_solids(seed: int, count: int, size: float) -> Solids:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(count, 1, 3, 3)))
    stretch = (turn * rng.uniform(0.4, 1.3, (count, 1, 1, 3))) @ np.swapaxes(turn, -1, -2)
    stretch[::2] = np.eye(3)
    ra = rng.uniform(3, 9, (count, 1))
    ends = rng.uniform(-0.1 * size, 1.1 * size, (2, count, 1, 3))
    return Solids(
        *(v.astype(np.float32) for v in (*ends, ra, ra * rng.uniform(0.7, 1.3, (count, 1)), stretch))
    )


@pytest.mark.parametrize("seed", range(3))
def test_surface_equals_brute_force(seed: int) -> None:
    solids = _random_solids(seed, 8, 64)
    surface = rasterise(solids, 56, 64)
    expected = _nearest_depth(solids, 56, 64)
    found = surface.depth[0]
    # Rays that just touch a rim may fall to either side.
    assert (np.isfinite(found) != np.isfinite(expected)).mean() < 0.004
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.sum() > 500
    error = np.abs(found[both] - expected[both])
    assert np.quantile(error, 0.98) < 0.15
    assert np.median(error) < 0.01


def test_end_on_cone_shows_its_nearer_end() -> None:
    a, b = np.array([[[20, 20, 0]]], np.float32), np.array([[[20, 20, 30]]], np.float32)
    radius = np.full((1, 1), 6, np.float32)
    eye = np.eye(3, dtype=np.float32)[None, None]
    surface = rasterise(Solids(a, b, radius, radius * np.float32(0.8), eye), 40, 40)
    assert surface.depth[0, 20, 20] == pytest.approx(-6, abs=0.1)
    assert np.isfinite(surface.depth[0]).sum() == pytest.approx(np.pi * 36, rel=0.1)


def test_normals_point_at_the_viewer_and_outwards() -> None:
    surface = rasterise(_random_solids(9, 6, 64), 64, 64)
    assert np.allclose((surface.normal**2).sum(0), 1, atol=1e-3)
    assert (surface.normal[2] < 0.05).all()
    centre = np.full((1, 1, 3), 32, np.float32)
    ball = Solids(
        centre, centre, *(np.full((1, 1), 20, np.float32),) * 2, np.eye(3, dtype=np.float32)[None, None]
    )
    surface = rasterise(ball, 64, 64)
    row, column = np.divmod(surface.where, 64)
    outward = np.stack([column + 0.5 - 32, row + 0.5 - 32, surface.depth[0].ravel()[surface.where] - 32]) / 20
    assert np.abs(surface.normal - outward).max() < 0.02


def test_nothing_in_the_frame_gives_nothing() -> None:
    solids = _random_solids(3, 4, 64)
    away = Solids(solids.a + 500, solids.b + 500, solids.ra, solids.rb, solids.stretch)
    surface = rasterise(away, 32, 32)
    assert len(surface.where) == 0
    assert not np.isfinite(surface.depth).any()
