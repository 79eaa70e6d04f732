"""Do the part maps say which side of the body is seen, in DensePose's numbers and colours?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mimic.dancers import (
    PART_NAMES,
    RenderedClip,
    World,
    draw_densepose,
    render,
    sample_character,
    sample_motion,
)
from mimic.dancers.write import synth
from mimic.video import read_frames
from pose.densepose import (
    DENSEPOSE_NAMES,
    densepose_palette,
    exchange_sides,
    read_densepose,
)

SIZE = 96


def _clip(bottoms: str = "trousers") -> RenderedClip:
    world = replace(World.plain(), bottoms=(bottoms,))
    rng = np.random.default_rng(5)
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=3.0)
    return render(character, motion, np.arange(6) / 2, SIZE, SIZE)


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return _clip()


def _share(ids: np.ndarray, *names: str) -> float:
    return float(np.isin(ids, [DENSEPOSE_NAMES.index(name) for name in names]).mean())


def test_the_palette_is_viridis_on_purple() -> None:
    palette = densepose_palette()
    assert palette.shape == (25, 3)
    assert tuple(palette[0]) == (68, 1, 84)
    assert tuple(palette[24]) == (253, 231, 37)
    assert len(np.unique(palette, axis=0)) == 25


def test_each_part_of_the_renderer_becomes_the_part_of_that_name(clip: RenderedClip) -> None:
    assert np.array_equal(clip.densepose_ids > 0, clip.part_ids > 0)
    for number, name in enumerate(PART_NAMES[1:], start=1):
        word = {"hair": "head", "torso": "torso"}.get(name, name)
        seen = {DENSEPOSE_NAMES[i] for i in np.unique(clip.densepose_ids[clip.part_ids == number])}
        allowed = {n for n in DENSEPOSE_NAMES if n.startswith(word)}
        if name == "torso":  # seams of the trousers reach below the trunk
            allowed |= {n for n in DENSEPOSE_NAMES if "thigh" in n}
        assert seen <= allowed, name


def test_a_dancer_who_faces_the_camera_shows_fronts(clip: RenderedClip) -> None:
    ids = clip.densepose_ids
    assert _share(ids, "torso_front") > 20 * _share(ids, "torso_back")
    assert _share(ids, "left_thigh_front") > 5 * _share(ids, "left_thigh_back")
    for side in ("left", "right"):
        assert _share(ids, f"head_{side}") > 0.2 * _share(ids, "head_left", "head_right")
    left = np.argwhere(ids[0] == DENSEPOSE_NAMES.index("head_left"))[:, 1].mean()
    assert left > np.argwhere(ids[0] == DENSEPOSE_NAMES.index("head_right"))[:, 1].mean()


def test_a_skirt_is_drawn_as_the_thighs_under_it() -> None:
    clip = _clip("skirt")
    of_torso = clip.densepose_ids[clip.part_ids == PART_NAMES.index("torso")]
    assert np.isin(of_torso, [DENSEPOSE_NAMES.index(f"{s}_thigh_front") for s in ("left", "right")]).any()


def test_colours_say_the_parts_also_at_another_size(clip: RenderedClip) -> None:
    maps = draw_densepose(clip, SIZE, SIZE)
    assert maps.dtype == np.uint8
    assert maps.shape == (6, SIZE, SIZE, 3)
    assert np.array_equal(read_densepose(maps), clip.densepose_ids)
    small = draw_densepose(clip, SIZE // 2, SIZE // 3)
    assert small.shape == (6, SIZE // 2, SIZE // 3, 3)
    assert set(map(tuple, np.unique(small.reshape(-1, 3), axis=0))) <= set(map(tuple, densepose_palette()))


def test_mirroring_exchanges_left_and_right(clip: RenderedClip) -> None:
    mirrored = exchange_sides(clip.densepose_ids[..., ::-1])
    assert _share(mirrored, "left_hand") == _share(clip.densepose_ids, "right_hand")
    assert _share(mirrored, "torso_front") == _share(clip.densepose_ids, "torso_front")
    assert np.array_equal(exchange_sides(mirrored[..., ::-1]), clip.densepose_ids)


def test_synth_writes_a_densepose_video_that_reads_back(tmp_path) -> None:
    synth(tmp_path, num_clips=1, seconds=0.5, fps=8, height=SIZE, width=SIZE, seed=3, densepose=True)
    frames = np.stack(list(read_frames(tmp_path / "clip_0000.densepose.mp4")))
    assert frames.shape == (4, SIZE, SIZE, 3)
    clip = _synthesised_clip()
    assert (read_densepose(frames) == clip.densepose_ids).mean() > 0.93


def _synthesised_clip() -> RenderedClip:
    rng = np.random.default_rng([3, 0])
    world = World.plain()
    character = sample_character(rng, world)
    return render(character, sample_motion(rng, world, duration_s=0.5), np.arange(4) / 8, SIZE, SIZE, fps=8)
