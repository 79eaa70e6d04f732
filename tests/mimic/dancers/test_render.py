import time
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from mimic.dancers import (
    LEFT_HAND,
    PART_NAMES,
    RIGHT_HAND,
    WORLDS,
    RenderedClip,
    World,
    render,
    sample_character,
    sample_motion,
)
from mimic.dancers.face import face_points
from pose import skeletons as layout

TURNING = replace(World.rich(), full_turn_probability=1.0)
PART = {name: number for number, name in enumerate(PART_NAMES)}


@cache
def _clip(seed: int, world: World, size: int = 160, num_frames: int = 5) -> RenderedClip:
    rng = np.random.default_rng(seed)
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=3)
    return render(character, motion, np.linspace(0, 3, num_frames), size, size)


def _parts_at(clip: RenderedClip, points: slice | list[int]) -> np.ndarray:
    """Part under each point, F x K; -1 outside the frame."""
    height, width = clip.part_ids.shape[1:]
    place = np.floor(clip.poses.points[:, 0, points] * [width, height]).astype(int)
    x, y = place[..., 0], place[..., 1]
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    frame = np.arange(len(place))[:, None]
    return np.where(
        is_inside, clip.part_ids[frame, y.clip(0, height - 1), x.clip(0, width - 1)].astype(int), -1
    )


def test_same_seed_same_clip_other_seed_another() -> None:
    first, second, other = (_clip.__wrapped__(seed, World.rich(), 64, 3) for seed in (7, 7, 8))
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.poses.scores, second.poses.scores)
    assert not np.array_equal(first.frames, other.frames)


def test_frames_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(2)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=2)
    together = render(character, motion, [0.2, 1.5, 0.9], 72, 56)
    alone = render(character, motion, [0.9], 72, 56)
    assert np.array_equal(together.frames[2], alone.frames[0])
    # Sums of another length may be added up in another order.
    np.testing.assert_allclose(together.poses.scores[2], alone.poses.scores[0], rtol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (128, 72), (72, 128), (33, 47)])
def test_any_size_holds_the_whole_body(height: int, width: int) -> None:
    rng = np.random.default_rng(1)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=2)
    clip = render(character, motion, [0.0, 0.7, 1.4], height, width, fps=12)
    assert clip.frames.shape == (3, height, width, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.poses.points.shape == (3, 1, 134, 2)
    assert (clip.poses.height, clip.poses.width, clip.poses.fps) == (height, width, 12)
    assert np.array_equal(clip.figure_mask, clip.part_ids > 0)
    assert (clip.poses.points >= 0).all()
    assert (clip.poses.points <= 1).all()


def test_plain_world_fills_the_frame_without_leaving_it() -> None:
    heights, left = [], 0
    for seed in range(25):
        clip = _clip(seed, World.plain(), 48, 4)
        left += int(((clip.poses.points < 0) | (clip.poses.points > 1)).any(axis=(1, 2, 3)).sum())
        heights += [np.ptp(np.flatnonzero(mask.any(axis=1))) / 48 for mask in clip.figure_mask]
    assert left <= 1  # of 100 frames
    assert 0.8 < np.mean(heights) < 0.92


def test_points_are_the_same_at_every_resolution() -> None:
    rng = np.random.default_rng(5)
    character, motion = sample_character(rng, World.rich()), sample_motion(rng, World.rich(), duration_s=2)
    small, large = (render(character, motion, [0.3, 1.1], size, size) for size in (64, 320))
    assert np.allclose(small.poses.points, large.poses.points, atol=1e-12)
    shrunk = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in large.frames])
    assert np.abs(shrunk.astype(int) - small.frames).mean() < 1.5


def test_confident_points_lie_on_their_own_parts() -> None:
    own = {
        layout.LEFT_ELBOW: ("left_upper_arm", "left_forearm"),
        layout.RIGHT_ELBOW: ("right_upper_arm", "right_forearm"),
        layout.LEFT_WRIST: ("left_forearm", "left_hand"),
        layout.RIGHT_WRIST: ("right_forearm", "right_hand"),
        layout.LEFT_KNEE: ("left_thigh", "left_shin"),
        layout.RIGHT_KNEE: ("right_thigh", "right_shin"),
        layout.LEFT_ANKLE: ("left_shin", "left_foot"),
        layout.RIGHT_ANKLE: ("right_shin", "right_foot"),
        layout.NOSE: ("head",),
    }
    hits: dict[int, list[bool]] = {joint: [] for joint in own}
    for seed in range(10):
        clip = _clip(seed, World.plain())
        for joint, names in own.items():
            part = _parts_at(clip, [joint])[:, 0]
            is_sure = clip.poses.scores[:, 0, joint] > 0.9
            hits[joint] += [int(p) in [PART[n] for n in names] for p in part[is_sure]]
    for joint, found in hits.items():
        assert len(found) > 15, layout.BODY_JOINT_NAMES[joint]
        assert np.mean(found) > 0.93, layout.BODY_JOINT_NAMES[joint]


def test_hand_points_lie_on_the_pixels_of_their_own_hand() -> None:
    for points, part, other in (
        (layout.LEFT_HAND, LEFT_HAND, RIGHT_HAND),
        (layout.RIGHT_HAND, RIGHT_HAND, LEFT_HAND),
    ):
        share, wrong = [], []
        for seed in range(10):
            clip = _clip(seed, World.plain())
            found = _parts_at(clip, points)
            is_sure = clip.poses.scores[:, 0, points.start] > 0.85
            share.append((found == part)[is_sure].ravel())
            wrong.append((found == other)[is_sure].ravel())
        assert np.concatenate(share).mean() > 0.85
        assert np.concatenate(wrong).mean() < 0.04


def test_face_points_lie_on_the_head() -> None:
    found = []
    for seed in range(10):
        clip = _clip(seed, World.plain())
        is_sure = clip.poses.scores[:, 0, layout.FACE.start] > 0.9
        found.append(np.isin(_parts_at(clip, slice(41, 92))[is_sure], [PART["head"], PART["hair"]]).ravel())
    assert np.concatenate(found).mean() > 0.95


def test_left_is_the_persons_left_and_faces_are_symmetric() -> None:
    clip = _clip(0, replace(World.plain(), turn_deg=10.0))
    x = clip.poses.points[:, 0, :, 0]
    for left, right in ((layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER), (layout.LEFT_HIP, layout.RIGHT_HIP)):
        assert (
            x[:, left] > x[:, right]
        ).all()  # who faces the camera has the left hand on the picture's right
    assert (x[:, layout.FACE][:, 45] > x[:, layout.FACE][:, 36]).all()
    mirrored = face_points()[layout.MIRROR[layout.FACE] - layout.FACE.start] * [-1, 1, 1]
    assert np.allclose(mirrored, face_points(), atol=1e-9)


def test_confidence_is_honest() -> None:
    seen, hidden, away, towards = [], [], [], []
    for seed in range(20):
        clip = _clip(seed, TURNING, 96, 8)
        points, scores = clip.poses.points[:, 0], clip.poses.scores[:, 0]
        assert scores.min() >= 0
        assert scores.max() <= 1
        is_outside = ((points < 0) | (points >= 1)).any(axis=-1)
        assert (scores[is_outside] == 0).all()
        for hand, part in ((layout.LEFT_HAND, LEFT_HAND), (layout.RIGHT_HAND, RIGHT_HAND)):
            is_inside = ~is_outside[:, hand].any(axis=1)
            share = (_parts_at(clip, hand) == part).mean(axis=1)
            assert np.allclose(scores[is_inside][:, hand], scores[is_inside][:, hand][:, :1])
            seen.append(scores[is_inside & (share > 0.8), hand.start])
            hidden.append(scores[is_inside & (share == 0), hand.start])
        # From behind, the left shoulder is on the left of the picture and the head shows hair, no nose.
        turned = points[:, layout.LEFT_EYE, 0] < points[:, layout.RIGHT_EYE, 0]
        inside = ~is_outside[:, layout.FACE].any(axis=1)
        away.append(scores[turned & inside][:, layout.FACE].ravel())
        towards.append(scores[~turned & inside][:, layout.FACE].ravel())
    assert np.concatenate(seen).mean() > 0.85
    assert len(np.concatenate(hidden)) > 5
    assert np.concatenate(hidden).max() < 0.5
    assert len(np.concatenate(away)) > 68
    assert np.concatenate(away).max() < 0.2
    assert np.median(np.concatenate(towards)) > 0.85


def test_hidden_joints_score_lower_than_seen_ones() -> None:
    covered, free = [], []
    for seed in range(20):
        clip = _clip(seed, TURNING, 96, 8)
        part = _parts_at(clip, [layout.LEFT_WRIST, layout.RIGHT_WRIST])
        scores = clip.poses.scores[:, 0, [layout.LEFT_WRIST, layout.RIGHT_WRIST]]
        torso = (part == PART["torso"]) | (part == PART["hair"])
        left, right = ([PART[f"{side}_{name}"] for name in ("forearm", "hand")] for side in ("left", "right"))
        own = np.stack([np.isin(part[:, 0], left), np.isin(part[:, 1], right)], axis=1)
        covered.append(scores[torso])
        free.append(scores[own])
    assert len(np.concatenate(covered)) >= 3
    # A pixel shows one of its samples: at rims the score may have looked at another.
    assert np.mean(np.concatenate(covered) < 0.6) > 0.85
    assert np.mean(np.concatenate(free) > 0.8) > 0.98


def test_worlds_show_what_they_allow() -> None:
    rng = np.random.default_rng(0)
    only = replace(
        World.plain(), hair_styles=("bun",), bottoms=("skirt",), sleeves=("long",), stripe_probability=1.0
    )
    character = sample_character(rng, only)
    assert (character.outfit.hair_style, character.outfit.bottoms) == ("bun", "skirt")
    assert character.outfit.num_stripes > 0
    kinds = {sample_character(rng, World.rich()).background.kind for _ in range(60)}
    assert kinds == {"plain", "gradient", "striped", "textured"}
    assert not any(sample_character(rng, World.plain()).background.kind == "textured" for _ in range(60))


def test_every_part_is_shown_somewhere() -> None:
    shown = np.unique(
        np.concatenate([np.unique(_clip(seed, World.rich(), 96, 4).part_ids) for seed in range(6)])
    )
    assert shown.tolist() == list(range(len(PART_NAMES)))


@pytest.mark.parametrize(("times", "size"), [([], 64), ([0.0], 4)])
def test_what_cannot_be_rendered_is_refused(times: list[float], size: int) -> None:
    rng = np.random.default_rng(0)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=1)
    with pytest.raises(ValueError, match="cannot render"):
        render(character, motion, times, size, size)


@pytest.mark.slow
def test_a_core_renders_a_hundred_frames_a_second() -> None:
    rng = np.random.default_rng(0)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=2)
    render(character, motion, np.arange(16) / 8, 128, 128)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        render(character, motion, np.arange(16) / 8, 128, 128)
        seconds.append(time.process_time() - start)
    assert 16 / min(seconds) > 100


def test_portraits_range_from_head_to_foot_to_the_head_alone():
    rng, world = np.random.default_rng(0), World.portraits()
    zooms = np.array([sample_character(rng, world).camera.zoom for _ in range(200)])
    shares = np.histogram(zooms, [0, 1.3, 2.1, 2.85, 5])[0] / len(zooms)  # whole, half, mostly busts, close
    assert (shares > [0.3, 0.15, 0.05, 0.05]).all()


def test_a_world_has_a_name_or_is_refused():
    assert [World.named(name) for name in WORLDS] == [World.plain(), World.portraits(), World.rich()]
    with pytest.raises(ValueError, match="there is no world 'flat'; use plain, portraits or rich"):
        World.named("flat")
