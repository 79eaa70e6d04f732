"""After any crop, mirror and change of size the joints lie where the picture's joints lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimic.dancers import (
    LEFT_HAND,
    PART_NAMES,
    RIGHT_HAND,
    World,
    render,
    sample_character,
    sample_motion,
)
from mimic.data.crops import choose_geometry, person_centre, shows_person
from mimic.data.masks import region_masks
from pose import PoseSequence, draw_pose
from pose import skeletons as layout

SIZES = st.tuples(st.integers(60, 140), st.integers(60, 140))
TARGETS = st.sampled_from([(64, 64), (96, 56), (56, 96), (128, 128), (200, 120), (40, 64)])
UNIT = st.floats(0, 1)
DOWNSCALE = 8  # of masks against pictures
DOT = 2.5  # radius in pixels of the source


def picture_with_dots(places_px: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """A dot of its own grey level on black for each place, exact to a sixteenth of a pixel."""
    image = np.zeros((height, width, 3), np.uint8)
    for number, (x, y) in enumerate(places_px):
        centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
        channel = np.zeros((height, width), np.uint8)
        cv2.circle(channel, centre, round(DOT * 16), 255, -1, cv2.LINE_AA, 4)
        image[..., number] = channel
    return image


def centre_of_mass(channel: NDArray[np.uint8]) -> NDArray[np.float64]:
    """As a fraction of the picture, x and y."""
    rows, columns = np.mgrid[: channel.shape[0], : channel.shape[1]] + 0.5
    mass = channel.astype(float)
    return (
        np.array([(columns * mass).sum() / channel.shape[1], (rows * mass).sum() / channel.shape[0]])
        / mass.sum()
    )


def sequence_of(points: dict[int, tuple[float, float]], height: int, width: int) -> PoseSequence:
    """One person of whom only some points are seen."""
    places, scores = np.full((1, 1, 134, 2), 0.5), np.zeros((1, 1, 134))
    for point, place in points.items():
        places[0, 0, point], scores[0, 0, point] = place, 1.0
    return PoseSequence(places, scores, height, width)


@settings(max_examples=40)
@given(SIZES, TARGETS, st.floats(1, 1.6), st.tuples(UNIT, UNIT), st.booleans(), st.integers(0, 2**31))
def test_joints_follow_the_picture(
    source: tuple[int, int],
    target: tuple[int, int],
    zoom: float,
    place: tuple[float, float],
    is_flipped: bool,
    seed: int,
) -> None:
    """Red, green and blue dots at a nose and two wrists: where the picture shows them, the points are."""
    geometry = choose_geometry(source, target, zoom=zoom, place=place, is_flipped=is_flipped)
    rng = np.random.default_rng(seed)
    low = np.array([geometry.left, geometry.top]) + DOT + 1
    high = np.array([geometry.left + geometry.box_width, geometry.top + geometry.box_height]) - DOT - 1
    places = np.stack([rng.uniform(low, high) for _ in range(3)])  # within the box
    picture = geometry.picture(picture_with_dots(places, *source))
    fractions = places / [source[1], source[0]]
    joints = (layout.NOSE, layout.LEFT_WRIST, layout.RIGHT_WRIST)
    poses = geometry.poses(sequence_of(dict(zip(joints, map(tuple, fractions))), *source))
    assert (poses.height, poses.width) == target
    # In a mirror a left wrist looks like a right one.
    seen_as = (layout.NOSE, layout.RIGHT_WRIST, layout.LEFT_WRIST) if is_flipped else joints
    for channel, joint in enumerate(seen_as):
        shown = centre_of_mass(picture[..., channel]) * [target[1], target[0]]
        told = poses.points[0, 0, joint] * [target[1], target[0]]
        assert poses.scores[0, 0, joint] == 1
        enlarged = max(1.0, target[0] / geometry.box_height)
        np.testing.assert_allclose(shown, told, atol=0.15 * enlarged)


@settings(max_examples=15)
@given(SIZES, TARGETS, st.floats(1, 1.6), st.tuples(UNIT, UNIT), st.booleans(), st.integers(0, 2**31))
def test_drawn_maps_follow_the_picture(
    source: tuple[int, int],
    target: tuple[int, int],
    zoom: float,
    place: tuple[float, float],
    is_flipped: bool,
    seed: int,
) -> None:
    """The disc that a map shows of a joint lies on the dot that the picture shows there."""
    geometry = choose_geometry(source, target, zoom=zoom, place=place, is_flipped=is_flipped)
    rng = np.random.default_rng(seed)
    low = np.array([geometry.left, geometry.top]) + DOT + 3
    high = np.array([geometry.left + geometry.box_width, geometry.top + geometry.box_height]) - DOT - 3
    joint = rng.uniform(low, high)
    picture = geometry.picture(picture_with_dots(joint[None], *source))
    fraction = joint / [source[1], source[0]]
    poses = geometry.poses(sequence_of({layout.NOSE: tuple(fraction)}, *source))
    drawn = draw_pose(poses, *target, canvas_short_side=480)[0].max(axis=-1)
    shown = centre_of_mass(picture[..., 0]) * [target[1], target[0]]
    mapped = centre_of_mass(drawn) * [target[1], target[0]]
    # Maps are drawn at whole pixels of their canvas.
    np.testing.assert_allclose(mapped, shown, atol=0.25 * max(1.0, target[0] / geometry.box_height) + 0.5)


@dataclass(frozen=True)
class Scene:
    """Two frames of a rendered dancer, cropped, mirrored and resized, with what masks and parts say."""

    target: tuple[int, int]
    zoom: float
    is_flipped: bool
    poses: PoseSequence
    masks: dict[str, NDArray[np.float32]]
    """``2 x H / 8 x W / 8`` by region."""
    parts: NDArray[np.uint8]
    """Body parts that the renderer painted, ``2 x H x W``."""
    figure: NDArray[np.bool_]


def rendered_scene(
    seed: int,
    source: tuple[int, int],
    target: tuple[int, int],
    zoom: float,
    place: tuple[float, float],
    is_flipped: bool,
) -> Scene:
    rng = np.random.default_rng(seed)
    world = World.plain()
    clip = render(
        sample_character(rng, world), sample_motion(rng, world, duration_s=2.0), [0.5, 1.4], *source
    )
    geometry = choose_geometry(source, target, zoom=zoom, place=place, is_flipped=is_flipped)
    poses = geometry.poses(clip.poses)
    masks = region_masks(
        poses,
        ("hands", "face", "person"),
        target[0] // DOWNSCALE,
        target[1] // DOWNSCALE,
        thresholds={"hands": 0.8, "face": 0.8, "person": 0.3},
        margin=0.25,
    )
    return Scene(
        target,
        zoom,
        is_flipped,
        poses,
        {region: mask[:, 0].numpy() for region, mask in masks.items()},
        np.stack([geometry.labels(ids) for ids in clip.part_ids]),
        np.stack([geometry.labels(ids) for ids in (clip.part_ids > 0).astype(np.uint8)]) > 0,
    )


scenes = st.builds(
    rendered_scene,
    st.integers(0, 10_000),
    st.sampled_from([(96, 96), (120, 90), (90, 140)]),
    st.sampled_from([(64, 64), (96, 64), (64, 104)]),
    st.floats(1, 1.25),
    st.tuples(UNIT, UNIT),
    st.booleans(),
)


@settings(max_examples=8)
@given(scenes)
def test_masks_and_poses_of_hands_follow_rendered_dancers(scene: Scene) -> None:
    poses, target = scene.poses, scene.target
    for side, (own, points) in enumerate(((LEFT_HAND, layout.LEFT_HAND), (RIGHT_HAND, layout.RIGHT_HAND))):
        # After mirroring, the renderer's left hand is the picture's right one.
        told = (layout.RIGHT_HAND, layout.LEFT_HAND)[side] if scene.is_flipped else points
        for frame in range(2):
            if poses.scores[frame, 0, told].min() <= 0.8:
                continue
            shown = np.argwhere(scene.parts[frame] == own)
            if len(shown) < 8:
                continue
            covered = scene.masks["hands"][frame][shown[:, 0] // DOWNSCALE, shown[:, 1] // DOWNSCALE]
            assert (covered > 0).mean() > 0.9
            inside = np.clip(poses.points[frame, 0, told], 0, 1).mean(axis=0) * [target[1], target[0]]
            is_cut = (shown.min(axis=0) == 0).any() or (shown.max(axis=0) >= np.array(target) - 1).any()
            if not is_cut:
                distance = np.linalg.norm(shown.mean(axis=0)[::-1] + 0.5 - inside)
                assert distance < 0.035 * max(target) * scene.zoom


@settings(max_examples=8)
@given(scenes)
def test_masks_of_people_cover_rendered_dancers(scene: Scene) -> None:
    rows, columns = (side // DOWNSCALE * DOWNSCALE for side in scene.target)
    for frame, mask in enumerate(scene.masks["person"]):
        covered = np.kron(mask, np.ones((DOWNSCALE, DOWNSCALE)))[scene.figure[frame, :rows, :columns]]
        sure = scene.poses.scores[frame, 0, layout.BODY] > 0.3
        assert (covered > 0).mean() > 0.9 or sure.sum() < 10


@settings(max_examples=8)
@given(scenes)
def test_maps_lie_on_rendered_dancers(scene: Scene) -> None:
    drawn = draw_pose(scene.poses, *scene.target, canvas_short_side=480).max(axis=-1) > 96
    kernel = np.ones((5, 5), np.uint8)
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) for mask in scene.figure]) > 0
    assert drawn.any()
    assert (drawn & ~grown).sum() < 0.02 * drawn.sum()


@settings(max_examples=8)
@given(scenes)
def test_masks_of_faces_lie_on_rendered_heads(scene: Scene) -> None:
    for frame in range(2):
        face = scene.masks["face"][frame]
        head = np.argwhere(scene.parts[frame] == PART_NAMES.index("head"))
        if face.sum() > 0 and len(head) > 20:
            cells = np.argwhere(face > 0)
            middle = ((cells + 0.5) * face[tuple(cells.T)][:, None]).sum(axis=0) / face.sum() * DOWNSCALE
            assert np.abs(middle - head.mean(axis=0) - 0.5).max() < DOWNSCALE


def test_a_mirror_image_of_a_mirror_image_is_the_same() -> None:
    rng = np.random.default_rng(0)
    poses = PoseSequence(rng.uniform(size=(2, 1, 134, 2)), rng.uniform(size=(2, 1, 134)), 40, 60)
    mirror = choose_geometry((40, 60), (40, 60), is_flipped=True)
    twice = mirror.poses(mirror.poses(poses))
    np.testing.assert_allclose(twice.points, poses.points)
    np.testing.assert_array_equal(twice.scores, poses.scores)
    once = mirror.poses(poses)
    np.testing.assert_array_equal(once.scores[..., layout.LEFT_HAND], poses.scores[..., layout.RIGHT_HAND])
    image = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mirror.picture(mirror.picture(image)), image)


@settings(max_examples=20)
@given(SIZES, TARGETS, st.floats(1, 3), st.tuples(UNIT, UNIT))
def test_a_box_lies_in_the_frame_and_keeps_the_aspect(
    source: tuple[int, int], target: tuple[int, int], zoom: float, place: tuple[float, float]
) -> None:
    box = choose_geometry(source, target, zoom=zoom, place=place)
    assert 0 <= box.left <= source[1] - box.box_width
    assert 0 <= box.top <= source[0] - box.box_height
    stretch = (box.box_width / target[1]) / (box.box_height / target[0])
    assert abs(stretch - 1) < 1.2 / min(box.box_width, box.box_height)


def test_the_largest_box_of_the_aspect_is_cut_from_the_middle() -> None:
    box = choose_geometry((720, 1280), (1024, 576))
    assert (box.box_height, box.box_width, box.top, box.left) == (720, 405, 0, 438)


@pytest.mark.parametrize(("x", "left"), [(0.7, 694), (0.0, 0), (1.0, 875)])
def test_a_box_around_the_person_stays_in_the_frame(x: float, left: int) -> None:
    assert choose_geometry((720, 1280), (1024, 576), centre=(x, 0.5)).left == pytest.approx(left, abs=1)


def test_the_middle_of_a_person_is_not_moved_by_a_false_joint() -> None:
    points = np.full((50, 1, 134, 2), 0.7)
    points[:, :, :9] = 0.5
    points[3, 0, 4] = -3.0
    poses = PoseSequence(points, np.ones((50, 1, 134)), 100, 100)
    assert person_centre(poses) == pytest.approx((0.6, 0.6))
    assert person_centre(replace(poses, scores=np.zeros((50, 1, 134)))) is None


def test_a_frame_shows_a_person_by_joints_in_view() -> None:
    seen = {joint: (0.5, 0.5) for joint in (0, 1, 2)}
    assert shows_person(sequence_of(seen, 10, 10)).tolist() == [True]
    assert shows_person(sequence_of(seen | {2: (1.2, 0.5)}, 10, 10)).tolist() == [False]
    assert shows_person(sequence_of({}, 10, 10)).tolist() == [False]
