"""Drawing: the released pixels, and what holds for any pose."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose import PoseError, PoseSequence, draw_pose
from pose.draw import PosePainter, draw_frame, overlay_frame
from pose.skeletons import BODY, FACE, HANDS, LEFT_HAND, NECK, RIGHT_SHOULDER
from pose.types import NUM_POINTS, concatenate
from tests.pose.figures import GOLDENS, beside, clip, golden_pose, golden_rescale

DRAW_CASES = sorted(path.stem for path in (GOLDENS / "draw").glob("*.npz"))


@pytest.mark.parametrize("name", DRAW_CASES)
def test_recorded_drawings_pixel_for_pixel(name):
    with np.load(GOLDENS / "draw" / f"{name}.npz") as file:
        arrays = dict(file)
    height, width = int(arrays["H"]), int(arrays["W"])
    expected = cv2.imread(str(GOLDENS / "draw" / f"{name}.png"))[..., ::-1]
    np.testing.assert_array_equal(
        draw_pose(golden_pose(arrays, "", height, width), height, width)[0], expected
    )


@pytest.mark.parametrize(
    "name", ["portrait_ref_landscape_video", "some_frames_two_persons", "ref_two_persons"]
)
def test_recorded_maps_of_rescaled_clips_pixel_for_pixel(name):
    case, arrays, driving, reference = golden_rescale(name)
    height, width = case["ref_hw"]
    np.testing.assert_array_equal(
        draw_pose(reference, height, width)[0], arrays["ref_map"].transpose(1, 2, 0)
    )
    numbers = sorted({int(key[3:].split("_")[0]) for key in arrays if key.startswith("out")})
    for i in numbers:  # scores and subset are those of the input
        arrays.update(
            {f"in{i}_{part}": arrays[f"out{i}_{part}"] for part in ("bodies_candidate", "hands", "faces")}
        )
    moved = concatenate(golden_pose(arrays, f"in{i}", height, width) for i in numbers)
    assert len(moved) == len(driving)
    np.testing.assert_array_equal(draw_pose(moved, height, width), arrays["maps"].transpose(0, 2, 3, 1))


def test_right_shoulder_limb_is_blue():
    poses = clip(size=130.0, at=(60.0, 20.0), score=1.0)
    middle = poses.points[0, 0, [NECK, RIGHT_SHOULDER]].mean(axis=0) * [1080, 1440]
    x, y = middle.astype(int)
    np.testing.assert_array_equal(draw_pose(poses, 1440, 1080)[0, y, x], [0, 0, 153])  # 255 * 0.6


def test_hand_joints_are_red():
    poses = clip(score=1.0)
    x, y = (poses.points[0, 0, LEFT_HAND][0] * [1080, 1440]).astype(int)
    np.testing.assert_array_equal(draw_pose(poses, 1440, 1080)[0, y, x], [255, 0, 0])


def test_brightness_follows_the_scores():
    bright, dim = (draw_pose(clip(score=score), 160, 120)[0].astype(float) for score in (1.0, 0.5))
    lit = bright.sum() / dim.sum()
    assert 2.0 < lit < 4.0  # joints twice as bright, limbs four times


def test_padding_people_draw_nothing():
    padded = concatenate([clip(), beside(clip(), clip())])[0]
    np.testing.assert_array_equal(draw_pose(padded, 80, 60), draw_pose(clip(), 80, 60))
    nobody = PoseSequence(padded.points, padded.scores, 160, 120, is_present=np.zeros((1, 2), bool))
    assert draw_pose(nobody, 80, 60).max() == 0


@pytest.mark.parametrize("mode", ["confidence", "binary"])
@pytest.mark.parametrize("canvas_short_side", [60, 288, 2160])
def test_a_kept_canvas_draws_what_a_fresh_one_draws(mode, canvas_short_side):
    settings = {"mode": mode, "canvas_short_side": canvas_short_side}
    poses = clip(num_frames=4, size=180.0, at=(10.0, -40.0), step=(40.0, 45.0), jitter=3.0)
    together = draw_pose(poses, 96, 72, **settings)
    for i in range(4):
        alone = draw_frame(poses.points[i], poses.scores[i], None, 96, 72, **settings)
        np.testing.assert_array_equal(together[i], alone)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(-3, 4),
    st.sampled_from([0.0, 0.5, 1e3, np.nan, np.inf, -np.inf]),
)
def test_no_points_and_scores_are_too_wild_to_draw(seed, spread, wild):
    rng = np.random.default_rng(seed)
    points = rng.normal(0.5, 10.0**spread, size=(2, NUM_POINTS, 2))
    points[rng.random(points.shape) < 0.1] = wild
    scores = rng.normal(0.5, 1.0, size=(2, NUM_POINTS))
    scores[rng.random(scores.shape) < 0.05] = np.nan
    painter = PosePainter(40, 30, canvas_short_side=90)
    painter.draw(points, scores)
    calm = clip()
    np.testing.assert_array_equal(  # and nothing of it stays on the canvas
        painter.draw(calm.points[0], calm.scores[0]), draw_pose(calm, 40, 30, canvas_short_side=90)[0]
    )


class TestBinary:
    def test_does_not_see_how_sure_a_point_is(self):
        rng = np.random.default_rng(0)
        sure = clip(score=1.0)
        unsure = PoseSequence(sure.points, rng.uniform(0.31, 1.6, sure.scores.shape), 160, 120)
        expected = draw_pose(sure, 160, 120)
        np.testing.assert_array_equal(draw_pose(unsure, 160, 120, mode="binary"), expected)

    def test_draws_nothing_at_or_below_the_threshold(self):
        assert draw_pose(clip(score=0.3), 160, 120, mode="binary").max() == 0

    @pytest.mark.parametrize("part", [BODY, FACE, *HANDS])
    def test_leaves_out_one_unseen_part(self, part):
        poses = clip(score=0.9)
        poses.scores[0, 0, part] = 0.2
        shown = draw_pose(poses, 640, 480, mode="binary")
        poses.points[0, 0, part] = 0.05  # wherever it is
        np.testing.assert_array_equal(draw_pose(poses, 640, 480, mode="binary"), shown)
        assert 0 < shown.sum() < draw_pose(clip(score=1.0), 640, 480).sum()


def test_smaller_canvas_draws_bolder_strokes():
    covered = [
        (draw_pose(clip(), 96, 72, canvas_short_side=side) > 0).any(axis=-1).sum()
        for side in (2160, 576, 288, 144)
    ]
    assert covered == sorted(covered)
    assert covered[-1] > 3 * covered[0]


def test_a_small_canvas_keeps_thin_lines_unbroken():
    """Reduced by area, a stroke that falls between the samples of a bilinear reduction is still there."""
    poses = clip(score=1.0)
    poses.scores[..., :92] = 0.0
    poses.points[0, 0, :] = -1.0
    fingers = np.linspace(0.2, 0.8, 5)
    poses.points[0, 0, LEFT_HAND] = [(0.5, 0.1)] + [(x, 0.2 + 0.2 * j) for x in fingers for j in range(4)]
    drawn = draw_pose(poses, 96, 72, canvas_short_side=360)[0].max(axis=-1)
    assert (drawn[25:75].max(axis=1) > 0).all()
    for x in fingers:
        column = round(x * 72)
        assert (drawn[20:76, max(0, column - 1) : column + 2].max(axis=1) > 0).all()


def test_a_canvas_smaller_than_the_map_is_enlarged():
    drawn = draw_pose(clip(), 320, 240, canvas_short_side=120)
    assert drawn.shape == (1, 320, 240, 3)
    assert drawn.max() > 200


def test_overlay_shows_the_skeleton_and_dims_the_rest():
    poses = clip(score=1.0)
    picture = np.full((160, 120, 3), 200, np.uint8)
    shown = overlay_frame(picture, poses.points[0], poses.scores[0], background=0.5)
    skeleton = draw_frame(poses.points[0], poses.scores[0], None, 160, 120, canvas_short_side=720)
    bare = skeleton.max(axis=-1) == 0
    assert (shown[bare] == 100).all()
    full = skeleton.max(axis=-1) == 255
    np.testing.assert_array_equal(shown[full], skeleton[full])
    assert (picture == 200).all()


def test_opacity_zero_shows_the_picture():
    poses = clip()
    picture = np.random.default_rng(0).integers(0, 256, (160, 120, 3), dtype=np.uint8)
    shown = overlay_frame(picture, poses.points[0], poses.scores[0], opacity=0.0, background=1.0)
    np.testing.assert_array_equal(shown, picture)


def test_wrong_arguments_are_pose_errors():
    poses = clip()
    for arguments in ({"mode": "bright"}, {"canvas_short_side": 0}):
        with pytest.raises(PoseError):
            draw_pose(poses, 16, 16, **arguments)
    with pytest.raises(PoseError, match="cannot be drawn"):
        draw_pose(poses, 0, 16)
    with pytest.raises(PoseError, match="not one frame's"):
        draw_frame(poses.points, poses.scores, None, 16, 16)
    with pytest.raises(PoseError, match="uint8"):
        overlay_frame(np.zeros((16, 16, 3)), poses.points[0], poses.scores[0])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((16, 16), "uint8"), ((16, 16, 4), "uint8"), ((16, 16, 3), "float32")]
)
def test_an_overlay_is_laid_over_rgb_bytes_only(shape, dtype):
    poses = clip()
    with pytest.raises(PoseError, match="expected H x W x 3, uint8"):
        overlay_frame(np.zeros(shape, dtype), poses.points[0], poses.scores[0])


def test_an_overlay_leaves_six_tenths_of_the_brightness_unless_told_otherwise():
    poses, picture = clip(score=1.0), np.full((160, 120, 3), 200, np.uint8)
    given = (picture, poses.points[0], poses.scores[0])
    usual, told = overlay_frame(*given), overlay_frame(*given, background=0.6)
    np.testing.assert_array_equal(usual, told)
    assert (usual == 120).any()


def test_drawings_are_bytes():
    assert draw_pose(clip(), 32, 24).dtype == np.uint8


def test_an_unknown_mode_names_those_there_are():
    with pytest.raises(PoseError, match=r"no drawing mode 'bright'; use one of confidence, binary$"):
        PosePainter(16, 16, mode="bright")


def test_hand_points_on_the_first_row_or_column_are_not_drawn():
    """As in the released drawings, where 0 stands for a point that is not there."""
    poses = clip(score=1.0)
    poses.scores[0, 0, BODY] = poses.scores[0, 0, FACE] = 0
    for column, is_drawn in ((0.0, False), (1.5, True)):
        for hand in HANDS:
            poses.points[0, 0, hand] = [column / 1080, 0.5]
        assert draw_pose(poses, 1440, 1080)[0].any() == is_drawn
