"""Rasterise the solids of a figure with a batched z-buffer for one kind of solid.

Every solid is a sphere of radius r(t) = ra + t (rb - ra) swept from a (t = 0) to b (t = 1), in a space
stretched by an affine map E: rounded cones, capsules, spheres, and with E also ellipsoids and flattened
cones. Along a ray in depth, the nearest point of the sweep is the minimum over t of ``c(t) - sqrt(q(t))``,
where c is linear and q quadratic in t. This function is convex, so the minimum has a closed form, and
clamping t to [0, 1] is exact. Solids of all frames with about the same size on the screen are computed
together.

Legend: F frames, P solids, I = P * F items, V visible samples; screen axes: x right, y down, z away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Tiles are computed in batches of about this many samples, which fit into the level-2 cache.
_BATCH_SAMPLES = 49_152
# Tiles are rounded up to these sizes, a compromise between few batches and few unused samples.
_TILE_STEPS = np.array([size << i for i in range(11) for size in (8, 12)])


@dataclass(frozen=True)
class Solids:
    """Swept spheres on the screen, in samples (sub-pixels).

    Args:
        a, b: centres of the two ends, ``P x F x 3``.
        ra, rb: radii at the two ends, ``P x F``.
        stretch: symmetric ``P x F x 3 x 3``; a sphere of radius r becomes the ellipsoid
            {stretch @ v: |v| = r}.
    """

    a: Floats
    b: Floats
    ra: Floats
    rb: Floats
    stretch: Floats


@dataclass(frozen=True)
class Surface:
    """The visible surface at the samples that show a solid.

    Args:
        where: int ``V``, flat index of the sample in ``F x H x W``.
        solid: int ``V``, index of the visible solid.
        along: ``V``, position along the solid's axis, 0 at a, 1 at b.
        normal: ``3 x V``, unit normal in screen axes (z is negative towards the viewer).
        depth: ``F x H x W``, inf for background.
        shown: uint16 ``F x H x W``, index of the solid plus one, 0 for background.
    """

    where: NDArray[np.int64]
    solid: NDArray[np.int64]
    along: Floats
    normal: Floats
    depth: Floats
    shown: NDArray[np.uint16]


def rasterise(solids: Solids, height: int, width: int) -> Surface:
    """Find the nearest solid at each sample of ``F`` frames of ``height x width`` samples."""
    num_solids, num_frames = solids.ra.shape
    items = _prepare(solids)
    depth = np.full(num_frames * height * width, np.inf, np.float32)
    shown = np.zeros(num_frames * height * width, np.uint16)
    along = np.empty(num_frames * height * width, np.float32)
    rise = np.empty(num_frames * height * width, np.float32)

    left, top, tile_w, tile_h, is_seen = _boxes(items, height, width)
    frame_start = np.tile(np.arange(num_frames) * (height * width), num_solids)
    start = frame_start + top * width + left
    number = np.repeat(np.arange(1, num_solids + 1, dtype=np.uint16), num_frames)
    with np.errstate(
        invalid="ignore"
    ):  # a miss is the square root of a negative number: NaN never counts as nearer
        for batch in _batches(tile_w, tile_h, is_seen):
            w, h = int(tile_w[batch[0]]), int(tile_h[batch[0]])
            z, t, s = _tiles(items[:, batch], left[batch], top[batch], w, h)
            index = start[batch, None, None] + (np.arange(h)[:, None] * width + np.arange(w))
            chosen = np.flatnonzero(z < depth[index])
            index, z = index.ravel()[chosen], z.ravel()[chosen]
            np.minimum.at(depth, index, z)
            is_nearest = depth[index] == z
            chosen, index = chosen[is_nearest], index[is_nearest]
            along[index] = t.ravel()[chosen]
            rise[index] = s.ravel()[chosen]
            shown[index] = (
                number[batch].repeat(h * w)[chosen]
                if len(chosen) * 4 > z.size
                else (number[batch][chosen // (h * w)])
            )

    where = np.flatnonzero(shown)
    solid = shown[where].astype(np.int64) - 1
    frame, rest = np.divmod(where, height * width)
    row, column = np.divmod(rest, width)
    along, rise = along[where], rise[where]
    normal = _normals(items, solid * num_frames + frame, column, row, along, rise)
    shape = (num_frames, height, width)
    return Surface(where, solid, along, normal, depth.reshape(shape), shown.reshape(shape))


# Rows of the item table.
_AX, _AY, _AZ, _L11, _L12, _L22, _DX, _DY, _DZ, _RA, _RR, _GX, _GY, _IW, _EX, _EY, _BX, _BY, _RB = range(19)
_M = slice(19, 28)


def _prepare(solids: Solids) -> Floats:
    """Return the item table ``28 x I``: each solid in coordinates in which it is not stretched."""
    stretch = solids.stretch.reshape(-1, 3, 3)
    inverse = np.linalg.inv(stretch)
    a, b = solids.a.reshape(-1, 3), solids.b.reshape(-1, 3)
    ray = inverse[:, :, 2]
    ray_length = np.sqrt((ray * ray).sum(-1))
    e3 = ray / ray_length[:, None]
    first = inverse[:, :, 0] - (inverse[:, :, 0] * e3).sum(-1, keepdims=True) * e3
    e1 = first / np.sqrt((first * first).sum(-1, keepdims=True))
    e2 = np.cross(e3, e1)
    basis = np.stack([e1, e2, e3], axis=1)  # rows
    mapped = basis @ inverse  # I x 3 x 3: screen offset -> (X, Y, depth)
    d = (mapped @ (b - a)[:, :, None])[:, :, 0]
    ra, rb = solids.ra.ravel(), solids.rb.ravel()
    extent = np.sqrt((stretch * stretch).sum(-1))
    table = np.empty((28, len(ra)), np.float32)
    table[_AX], table[_AY], table[_AZ] = a.T
    table[_L11], table[_L12], table[_L22] = mapped[:, 0, 0], mapped[:, 0, 1], mapped[:, 1, 1]
    table[_DX], table[_DY], table[_DZ] = d.T
    table[_RA], table[_RR], table[_RB] = ra, rb - ra, rb
    table[_IW] = 1 / ray_length
    table[_GX], table[_GY] = mapped[:, 2, 0] / ray_length, mapped[:, 2, 1] / ray_length
    table[_EX], table[_EY] = extent[:, 0], extent[:, 1]
    table[_BX], table[_BY] = b[:, 0], b[:, 1]
    table[_M] = mapped.transpose(2, 1, 0).reshape(9, -1)  # gradients: screen normal = mapped^T @ normal there
    return table


def _boxes(items: Floats, height: int, width: int) -> tuple[NDArray[np.int64], ...]:
    """Return left, top, width and height of each item's tile, and whether it intersects the frame."""
    edges = []
    for a, b, extent, limit in ((_AX, _BX, _EX, width), (_AY, _BY, _EY, height)):
        low = np.minimum(items[a] - items[extent] * items[_RA], items[b] - items[extent] * items[_RB])
        high = np.maximum(items[a] + items[extent] * items[_RA], items[b] + items[extent] * items[_RB])
        is_seen = (high > 0) & (low < limit)
        first = np.clip(np.floor(low), 0, limit - 1).astype(np.int64)
        last = np.clip(np.ceil(high), 1, limit).astype(np.int64)
        size = _TILE_STEPS[np.searchsorted(_TILE_STEPS, np.maximum(last - first, 1))]
        size = np.minimum(size, limit)
        edges.append((np.minimum(first, limit - size), size, is_seen))
    (left, tile_w, in_x), (top, tile_h, in_y) = edges
    return left, top, tile_w, tile_h, in_x & in_y


def _batches(
    tile_w: NDArray[np.int64], tile_h: NDArray[np.int64], is_seen: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Group visible items by tile size, with a maximum number of samples for each group."""
    seen = np.flatnonzero(is_seen)
    key = tile_h[seen] * 16384 + tile_w[seen]
    order = np.argsort(key, kind="stable")
    seen, key = seen[order], key[order]
    groups = np.split(seen, np.flatnonzero(np.diff(key)) + 1) if len(seen) else []
    batches = []
    for group in groups:
        step = max(1, int(_BATCH_SAMPLES // (tile_w[group[0]] * tile_h[group[0]])))
        batches += [group[i : i + step] for i in range(0, len(group), step)]
    return batches


def _tiles(
    items: Floats, left: NDArray[np.int64], top: NDArray[np.int64], w: int, h: int
) -> tuple[Floats, Floats, Floats]:
    """Compute depth, position along the axis and height above it, ``N x h x w`` each; NaN outside the
    solid."""
    column = (left[:, None] + np.arange(w, dtype=np.float32) + np.float32(0.5)).astype(np.float32)
    row = (top[:, None] + np.arange(h, dtype=np.float32) + np.float32(0.5)).astype(np.float32)
    v = items[:, :, None]
    x = column - v[_AX]  # N x w
    y = row - v[_AY]  # N x h
    big_y = v[_L22] * y
    dx, dy, dz, ra, rr = v[_DX], v[_DY], v[_DZ], v[_RA], v[_RR]
    alpha = np.minimum(rr * rr - dx * dx - dy * dy, -1e-3 * (ra + np.abs(rr)) ** 2 - 1e-6)
    bend = np.sqrt(-1 / alpha)
    kappa = dz / np.sqrt(alpha * alpha - alpha * dz * dz)

    def wide(array: Floats) -> Floats:
        return array[:, None, :]

    def tall(array: Floats) -> Floats:
        return array[:, :, None]

    beta = wide((ra * rr + dx * v[_L11] * x) * bend) + tall((dx * v[_L12] * y + dy * big_y) * bend)
    big_x = wide(v[_L11] * x) + tall(v[_L12] * y)
    np.multiply(big_x, big_x, out=big_x)
    gamma = np.subtract(tall(ra * ra - big_y * big_y), big_x, out=big_x)
    t = beta * beta
    t += gamma
    np.sqrt(t, out=t)
    t *= tall(-kappa)
    t += beta * tall(bend)
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    q = t * tall(alpha)
    beta *= tall(2 / bend)
    q += beta
    q *= t
    q += gamma
    s = np.sqrt(q, out=q)
    z = t * tall(dz)
    z -= s
    z *= tall(v[_IW])
    z += tall(v[_AZ] - v[_GY] * y) - wide(v[_GX] * x)
    return z, t, s


def _normals(
    items: Floats,
    item: NDArray[np.int64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    along: Floats,
    rise: Floats,
) -> Floats:
    x = (column + np.float32(0.5)).astype(np.float32) - items[_AX][item]
    y = (row + np.float32(0.5)).astype(np.float32) - items[_AY][item]
    n1 = items[_L11][item] * x + items[_L12][item] * y - along * items[_DX][item]
    n2 = items[_L22][item] * y - along * items[_DY][item]
    m = items[_M]
    normal = np.empty((3, len(item)), np.float32)
    for i in range(3):
        normal[i] = m[3 * i][item] * n1 + m[3 * i + 1][item] * n2 - m[3 * i + 2][item] * rise
    normal /= np.sqrt((normal * normal).sum(0)) + np.float32(1e-9)
    return normal
