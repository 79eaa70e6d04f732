"""Fits of limbs and anchors: bodies of other proportions, seated references, feet that stay on the ground."""

import numpy as np
import pytest

from pose import PoseError, PoseSequence, align_pose
from pose.align import fit_limbs, fit_robust
from pose.lengths import NAMES, estimate_lengths
from pose.skeletons import (
    BODY,
    LEFT_ANKLE,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NECK,
    NOSE,
    RIGHT_ANKLE,
    RIGHT_HIP,
    RIGHT_KNEE,
    RIGHT_SHOULDER,
)
from tests.pose.figures import STANDING, clip, person

ANKLES = [RIGHT_ANKLE, LEFT_ANKLE]


def pixels(poses: PoseSequence) -> np.ndarray:
    return poses.points * [poses.width, poses.height]


def figure(body: np.ndarray, *, size: float = 100.0, at: tuple[float, float] = (60.0, 30.0)) -> PoseSequence:
    points = (size * person(body) + np.array(at)) / [120, 160]
    return PoseSequence(points[None, None], np.full((1, 1, 134), 0.9), 160, 120)


def short_legged() -> np.ndarray:
    body = STANDING.copy()
    body[[RIGHT_KNEE, LEFT_KNEE], 1] = 0.42 + 0.7 * 0.22
    body[ANKLES, 1] = 0.42 + 0.7 * 0.44
    return body


def sitting() -> np.ndarray:
    """Cross-legged on the ground: the legs are folded towards the camera."""
    body = STANDING.copy()
    body[[RIGHT_KNEE, LEFT_KNEE]] = [(-0.17, 0.46), (0.17, 0.46)]
    body[ANKLES] = [(0.03, 0.50), (-0.03, 0.50)]
    return body


def moving(num_frames: int = 24) -> PoseSequence:
    """A dancer whose arms swing and whose knees bend, feet on the ground."""
    frames = []
    for frame in range(num_frames):
        swing = np.sin(2 * np.pi * frame / num_frames)
        body = STANDING.copy()
        body[[3, 4], 0] -= 0.05 * swing
        body[[6, 7], 0] += 0.05 * swing
        dip = 0.02 * (1 - swing)
        body[[j for j in range(18) if j not in (9, 10, 12, 13)], 1] += dip
        body[[9, 12], 1] += 0.5 * dip
        frames.append((90.0 * person(body) + [60, 30]) / [120, 160])
    points = np.stack(frames)[:, None]
    return PoseSequence(points, np.full(points.shape[:3], 0.9), 160, 120, 25.0)


class TestLimbs:
    def test_a_clip_fitted_to_its_own_picture_hardly_moves(self):
        driving = moving()
        moved = pixels(align_pose(driving, driving, mode="limbs")) - pixels(driving)
        assert np.abs(moved[:, 0, BODY]).max() < 2.5  # of a body of 90 pixels

    @pytest.mark.parametrize("size", [30.0, 250.0])
    def test_the_same_body_at_another_size_is_the_affine_fit(self, size):
        driving = clip(num_frames=3, size=80.0)
        aligned = pixels(align_pose(driving, clip(size=size, at=(70.0, 20.0)), mode="limbs"))
        expected = pixels(clip(size=size, at=(70.0, 20.0)))[0, 0]
        np.testing.assert_allclose(aligned[1, 0, BODY], expected[BODY], atol=0.03 * size)

    def test_limbs_take_the_lengths_of_the_reference(self):
        aligned = pixels(align_pose(clip(num_frames=6, size=80.0), figure(short_legged()), mode="limbs"))
        expected = pixels(figure(short_legged()))[0, 0]
        robust = pixels(align_pose(clip(num_frames=6, size=80.0), figure(short_legged()), mode="robust"))
        error, other = (
            np.linalg.norm(each[3, 0, BODY] - expected[BODY], axis=-1).mean() for each in (aligned, robust)
        )
        assert error < 2.5
        assert error < 0.5 * other

    def test_foreshortening_of_the_clip_is_kept(self):
        driving = moving()
        reach = driving.points.copy()
        # One forearm points at the camera in every other frame.
        reach[::2, 0, LEFT_WRIST] = reach[::2, 0, 6] + 0.2 * (reach[::2, 0, LEFT_WRIST] - reach[::2, 0, 6])
        driving = PoseSequence(reach, driving.scores, 160, 120, 25.0)
        aligned = pixels(align_pose(driving, figure(short_legged()), mode="limbs"))[:, 0]
        lengths = np.linalg.norm(aligned[:, LEFT_WRIST] - aligned[:, 6], axis=-1)
        np.testing.assert_allclose(lengths[::2] / lengths[1::2], 0.2, atol=0.05)

    def test_standing_feet_stay_on_the_ground(self):
        aligned = pixels(align_pose(moving(), figure(short_legged()), mode="limbs"))[:, 0]
        lower = aligned[:, ANKLES, 1].max(axis=1)
        assert np.ptp(lower) < 0.5
        assert lower.mean() == pytest.approx(pixels(figure(short_legged()))[0, 0, ANKLES, 1].max(), abs=0.5)
        assert np.ptp(aligned[:, NECK, 1]) > 2.0  # while the body goes down and up

    def test_a_seated_reference_does_not_make_the_figure_small(self):
        for fit in (fit_robust, fit_limbs):
            scale = fit(moving(), figure(sitting(), size=90.0)).scale[1]
            assert scale == pytest.approx(1.0, abs=0.12), fit.__name__

    def test_a_turned_reference_keeps_its_height(self):
        turned = STANDING.copy()
        turned[:, 0] *= 0.25
        aligned = pixels(align_pose(moving(), figure(turned, size=90.0), mode="limbs"))[0, 0]
        trunk = np.linalg.norm(aligned[NECK] - aligned[[RIGHT_HIP, LEFT_HIP]].mean(axis=0))
        assert trunk == pytest.approx(90 * 0.30, rel=0.08)
        assert np.linalg.norm(aligned[RIGHT_SHOULDER] - aligned[LEFT_SHOULDER]) > 0.8 * 18

    def test_missing_legs_of_a_portrait_are_estimated(self):
        reference = figure(STANDING, size=250.0)
        reference.scores[..., [3, 4, 6, 7, *range(8, 14)]] = 0.0
        reference.scores[..., 18:24] = reference.scores[..., 92:] = 0.0
        aligned = pixels(align_pose(moving(), reference, mode="limbs"))
        assert aligned[0, 0, LEFT_ANKLE, 1] > reference.height
        np.testing.assert_allclose(aligned[0, 0, NECK], pixels(reference)[0, 0, NECK], atol=6)

    def test_joints_that_are_not_seen_do_not_throw_the_others(self):
        driving = moving()
        expected = pixels(align_pose(driving, figure(short_legged()), mode="limbs"))
        driving.points[8:12, 0, 6] = 9.0  # an elbow, far away
        driving.scores[8:12, 0, 6] = 0.0
        aligned = pixels(align_pose(driving, figure(short_legged()), mode="limbs"))
        np.testing.assert_allclose(aligned[10, 0, LEFT_WRIST], expected[10, 0, LEFT_WRIST], atol=1.5)

    def test_nobody_on_one_side_falls_back_to_robust(self):
        driving = moving()
        nobody = PoseSequence(np.zeros((1, 0, 134, 2)), np.zeros((1, 0, 134)), 100, 100)
        assert fit_limbs(driving, nobody) == fit_robust(driving, nobody)

    def test_factors_are_told(self):
        told = align_pose(moving(), figure(short_legged()), mode="limbs").metadata["alignment"]
        assert told["factors"]["thigh"] < 0.9 * told["factors"]["trunk"]
        assert told["anchor"] == "ground"


class TestLengths:
    def test_both_sides_scale_alike(self):
        driving, reference = clip(num_frames=5, size=80.0), clip(size=160.0)
        lengths = estimate_lengths(
            driving.points[:, 0], driving.scores[:, 0], reference.points[0, 0], reference.scores[0, 0]
        )
        assert lengths is not None
        np.testing.assert_allclose(list(lengths.ratios.values()), 2.0, rtol=0.08)
        assert lengths.num_common == len(NAMES)

    def test_nothing_seen_is_none(self):
        points, scores = np.zeros((3, 134, 2)), np.zeros((3, 134))
        assert estimate_lengths(points, scores, points[0], scores[0]) is None


class TestAnchor:
    def walk(self) -> PoseSequence:
        return clip(num_frames=21, at=(20.0, 30.0), step=(4.0, 0.0))

    @pytest.mark.parametrize("mode", ["robust", "limbs"])
    def test_first_begins_where_the_reference_stands(self, mode):
        aligned = pixels(align_pose(self.walk(), clip(), mode=mode, anchor="first"))
        np.testing.assert_allclose(aligned[0, 0, NOSE], (60.0, 30.0), atol=1.0)
        np.testing.assert_allclose(aligned[-1, 0, NOSE], (140.0, 30.0), atol=3.0)

    def test_a_wrong_first_frame_does_not_move_the_clip(self):
        driving = self.walk()
        driving.points[0] += 0.3
        aligned = pixels(align_pose(driving, clip(), mode="robust", anchor="first"))
        np.testing.assert_allclose(aligned[1, 0, NOSE], (64.0, 30.0), atol=2.0)

    def test_mean_is_centred_on_it(self):
        aligned = pixels(align_pose(self.walk(), clip(), mode="limbs", anchor="mean"))
        np.testing.assert_allclose(aligned[10, 0, NOSE], (60.0, 30.0), atol=1.0)

    def test_ground_puts_the_feet_under_a_seated_body(self):
        reference = figure(sitting(), size=90.0, at=(60.0, 90.0))
        aligned = pixels(align_pose(moving(), reference, mode="limbs", anchor="ground"))
        ground = pixels(reference)[0, 0, ANKLES, 1].max()
        assert aligned[:, 0, ANKLES, 1].max() == pytest.approx(ground, abs=0.5)

    def test_ground_never_puts_the_head_above_the_picture(self):
        reference = figure(sitting(), size=250.0, at=(60.0, 30.0))
        aligned = align_pose(moving(), reference, mode="limbs", anchor="ground")
        assert aligned.metadata["alignment"]["anchor"] == "first (the head would be cut off)"
        assert (pixels(aligned)[:, 0, NOSE, 1] > 0).all()

    def test_ground_without_feet_is_first(self):
        reference = clip()
        reference.scores[..., ANKLES] = 0.0
        fits = [fit_robust(self.walk(), reference, anchor=anchor) for anchor in ("ground", "first")]
        assert fits[0].offset == fits[1].offset
        assert fits[0].anchor == "first (no feet are seen)"

    def test_an_unsure_glimpse_is_not_the_first_frame(self):
        driving = self.walk()
        driving.scores[:3, 0, 2:] = 0.0
        aligned = pixels(align_pose(driving, clip(), mode="robust", anchor="first"))
        np.testing.assert_allclose(aligned[3, 0, NOSE], (60.0, 30.0), atol=1e-6)

    @pytest.mark.parametrize("mode", ["released", "none"])
    def test_modes_without_an_anchor_refuse_one(self, mode):
        with pytest.raises(PoseError, match="takes no anchor"):
            align_pose(clip(), clip(), mode=mode, anchor="first")

    def test_an_unknown_anchor_is_a_pose_error(self):
        with pytest.raises(PoseError, match="first, mean, ground"):
            align_pose(clip(), clip(), mode="limbs", anchor="sky")
