"""Alignment: the released numbers, and what a fit must do for bodies it was not made for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose import PoseError, PoseSequence, align_pose
from pose.align import fit_released, fit_robust
from pose.released import to_dwpose_dict
from pose.skeletons import (
    ALIGNED_JOINTS,
    BODY,
    LEFT_ANKLE,
    LEFT_ELBOW,
    LEFT_EYE,
    LEFT_KNEE,
    LEFT_SHOULDER,
    MIRROR,
    NECK,
    NOSE,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
)
from pose.types import concatenate
from tests.pose.figures import STANDING, beside, clip, golden_rescale, person

FITTING_CASES = ["portrait_ref_landscape_video", "some_frames_two_persons", "ref_two_persons"]


def pixels(poses: PoseSequence) -> np.ndarray:
    return poses.points * [poses.width, poses.height]


def scale_of(poses: PoseSequence) -> tuple[float, float]:
    x, y = poses.metadata["alignment"]["scale"]
    return x, y


def half_body(reference: PoseSequence) -> PoseSequence:
    """The same picture, cut below the shoulders: nothing from the elbows and hips down is seen."""
    scores = reference.scores.copy()
    for joint in (3, 4, 6, 7, 8, 9, 10, 11, 12, 13):
        scores[:, :, joint] = 0.1
    return PoseSequence(reference.points, scores, reference.height, reference.width)


class TestReleased:
    @pytest.mark.parametrize("name", FITTING_CASES)
    def test_recorded_coordinates(self, name):
        case, arrays, driving, reference = golden_rescale(name)
        aligned = align_pose(driving, reference)
        fit = aligned.metadata["alignment"]
        np.testing.assert_allclose(fit["scale"], case["scale_xy"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(fit["offset"], case["offset_xy"], rtol=0, atol=1e-9)
        numbers = sorted({int(key[3:].split("_")[0]) for key in arrays if key.startswith("out")})
        assert len(numbers) == len(aligned)
        for frame, number in zip(aligned.frames(), numbers):
            pose = to_dwpose_dict(frame)
            for part in ("bodies_candidate", "hands", "faces"):
                np.testing.assert_allclose(pose[part], arrays[f"out{number}_{part}"], rtol=0, atol=1e-9)
        assert (aligned.height, aligned.width) == tuple(case["ref_hw"])
        np.testing.assert_array_equal(aligned.scores, driving.scores)

    def test_without_a_frame_of_one_person_it_explains(self):
        _, _, driving, reference = golden_rescale("all_frames_two_persons")
        with pytest.raises(PoseError, match=r"more than one person.*robust"):
            align_pose(driving, reference)

    def test_without_a_reference_joint_it_explains(self):
        _, _, driving, reference = golden_rescale("no_ref_joint_visible")
        told = r"reference picture shows no person .* to it\. Use a picture that shows a person, or align: ro"
        with pytest.raises(PoseError, match=told):
            align_pose(driving, reference)

    def test_frames_where_the_followed_person_is_not_seen_take_no_part(self):
        driving = clip(num_frames=4, size=60.0)
        driving.points[2] = 5.0
        driving.scores[2] = 0.0
        expected = fit_released(driving[[0, 1, 3]], clip())
        assert fit_released(driving, clip()) == expected

    def test_scores_of_the_driving_clip_do_not_matter(self):
        driving = clip(num_frames=3, size=60.0, jitter=1.0)
        unsure = PoseSequence(driving.points, driving.scores * 0.2, driving.height, driving.width)
        assert fit_released(unsure, clip()) == fit_released(driving, clip())


class TestRobust:
    def test_surer_joints_count_for_more(self):
        driving = clip(num_frames=3, size=60.0)
        driving.points[:, :, BODY] += np.random.default_rng(0).normal(scale=0.02, size=(3, 1, 18, 2))
        fits = []
        for score in (0.4, 0.95):
            scores = driving.scores.copy()
            scores[:, :, BODY][..., 5:] = score
            fits.append(fit_robust(replace(driving, scores=scores), clip()))
        assert not np.allclose(fits[0].scale, fits[1].scale, rtol=1e-4)

    def test_places_kept_for_somebody_who_is_away_take_no_part(self):
        driving = clip(num_frames=4, size=60.0)
        expected = fit_robust(driving[[0, 1, 3]], clip())
        points = driving.points.copy()
        points[2] += 0.3
        is_present = np.array([[True], [True], [False], [True]])
        assert fit_robust(replace(driving, points=points, is_present=is_present), clip()) == expected

    @pytest.mark.parametrize("name", FITTING_CASES)
    def test_is_nearly_the_released_result_on_whole_bodies(self, name):
        _, _, driving, reference = golden_rescale(name)
        released = fit_released(driving, reference)
        robust = fit_robust(driving, reference, anchor="mean")
        np.testing.assert_allclose(robust.scale, released.scale, rtol=0.03)
        is_alone = driving.is_present.sum(axis=1) == 1
        bodies = driving.points[is_alone, 0, BODY]
        apart = (np.array(robust.scale) - released.scale) * bodies + np.array(robust.offset) - released.offset
        assert np.abs(apart).max() < 0.02  # of the reference frame

    @settings(max_examples=60, deadline=None)
    @given(
        size=st.floats(20, 300),
        x=st.floats(-50, 300),
        y=st.floats(-50, 300),
        height=st.integers(64, 400),
        width=st.integers(64, 400),
        seed=st.integers(0, 1000),
    )
    def test_recovers_any_size_and_place_exactly(self, size, x, y, height, width, seed):
        reference = clip(height=height, width=width, size=size, at=(x, y))
        rng = np.random.default_rng(seed)
        driving = clip(num_frames=3, size=80.0, at=(50.0, 40.0))
        driving.scores[:] = rng.uniform(0.35, 1.0, driving.scores.shape)
        aligned = align_pose(driving, reference, mode="robust")
        np.testing.assert_allclose(pixels(aligned)[1, 0], pixels(reference)[0, 0], atol=1e-6 * size)

    def test_keeps_proportions_between_frames_of_other_shapes(self):
        driving = clip(num_frames=2, height=108, width=192, size=70.0, at=(90.0, 20.0))
        aligned = pixels(align_pose(driving, clip(height=400, width=300, size=300.0), mode="robust"))
        before = pixels(driving)
        ratios = np.ptp(aligned[0, 0], axis=0) / np.ptp(before[0, 0], axis=0)
        np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-9)

    def test_a_clip_fitted_to_its_own_first_pose_hardly_moves(self):
        driving = clip(num_frames=30, jitter=1.0)
        moved = pixels(align_pose(driving, driving, mode="robust")) - pixels(driving)
        assert np.abs(moved).max() < 2.0

    def test_half_body_reference_puts_head_and_shoulders_in_place(self):
        reference = half_body(clip(size=250.0, at=(60.0, 50.0)))
        driving = clip(num_frames=12, size=100.0, jitter=0.7)
        aligned = pixels(align_pose(driving, reference, mode="robust")).mean(axis=0)
        expected = pixels(reference)[0, 0]
        for joint in (NOSE, NECK, RIGHT_SHOULDER, LEFT_SHOULDER):
            np.testing.assert_allclose(aligned[0, joint], expected[joint], atol=3.0)
        assert aligned[0, LEFT_ANKLE, 1] > reference.height  # the legs are below the frame

    def test_half_body_driving_clip_fits_what_it_shows(self):
        driving = clip(num_frames=3, size=250.0, at=(60.0, 50.0))
        driving = PoseSequence(driving.points, half_body(driving).scores, 160, 120)
        aligned = align_pose(driving, clip(), mode="robust")
        np.testing.assert_allclose(pixels(aligned)[0], pixels(clip())[0], atol=1e-6)

    def test_unsure_joints_do_not_count(self):
        driving = clip(num_frames=4, size=80.0)
        expected = fit_robust(driving, clip())
        driving.points[:, 0, [LEFT_KNEE, LEFT_ANKLE, LEFT_EYE]] = 4.0
        driving.scores[:, 0, [LEFT_KNEE, LEFT_ANKLE, LEFT_EYE]] = 0.2
        np.testing.assert_allclose(fit_robust(driving, clip()).scale, expected.scale, rtol=1e-9)
        np.testing.assert_allclose(fit_robust(driving, clip()).offset, expected.offset, atol=1e-9)

    def test_a_fifth_of_wild_joints_changes_little(self):
        driving = clip(num_frames=20, size=80.0, jitter=0.5)
        clean = fit_robust(driving, clip())
        rng = np.random.default_rng(3)
        is_wild = rng.random((20, 18)) < 0.2
        driving.points[:, 0, BODY][is_wild] = rng.uniform(0, 1, (is_wild.sum(), 2))
        wild = fit_robust(driving, clip())
        np.testing.assert_allclose(wild.scale, clean.scale, rtol=0.05)
        np.testing.assert_allclose(wild.offset, clean.offset, atol=0.02)
        assert abs(fit_released(driving, clip()).scale[1] / clean.scale[1] - 1) > 0.05

    def test_facing_away_does_not_change_the_size(self):
        driving = clip(num_frames=6, size=80.0)
        centre = driving.points[:, :, [NECK]][..., 0]
        away = driving.points[..., MIRROR, :].copy()
        turned = driving.points.copy()
        turned[3:] = away[3:]
        assert not np.allclose(turned, driving.points)
        assert np.allclose(turned[..., NECK, 0], centre[..., 0])
        backwards = PoseSequence(turned, driving.scores, 160, 120)
        np.testing.assert_allclose(fit_robust(backwards, clip()).scale, (1.25, 1.25), rtol=1e-6)

    def test_several_people_the_followed_one_is_fitted_and_all_are_moved(self):
        large, small = (
            clip(num_frames=3, size=90.0, at=(40.0, 30.0)),
            clip(num_frames=3, size=30.0, at=(90.0, 60.0)),
        )
        both = beside(small, large)
        aligned = align_pose(both, clip(), mode="robust")
        np.testing.assert_allclose(pixels(aligned)[:, 1], pixels(clip(num_frames=3))[:, 0], atol=1e-6)
        scale, offset = np.array(scale_of(aligned)), np.array(aligned.metadata["alignment"]["offset"])
        np.testing.assert_allclose(aligned.points[:, 0], small.points[:, 0] * scale + offset)

    def test_frames_without_the_person_take_no_part(self):
        driving = clip(num_frames=5, size=80.0)
        expected = fit_robust(driving[:4], clip()).scale
        driving.scores[4] = 0.0
        driving.points[4] = 9.0
        np.testing.assert_allclose(fit_robust(driving, clip()).scale, expected)

    def test_few_common_joints_fall_back_to_any_length(self):
        reference, driving = clip(size=100.0), clip(num_frames=2, size=50.0)
        only = [RIGHT_ELBOW, LEFT_ELBOW]
        reference.scores[:, :, [j for j in range(18) if j not in only]] = 0.0
        fit = fit_robust(driving, reference)
        np.testing.assert_allclose(fit.scale, (2.0, 2.0))
        assert "any joints" in fit.basis
        aligned = pixels(align_pose(driving, reference, mode="robust"))
        np.testing.assert_allclose(aligned[0, 0, only], pixels(reference)[0, 0, only], atol=1e-6)

    def test_one_common_joint_keeps_the_size_and_moves(self):
        reference, driving = clip(size=100.0, at=(30.0, 40.0)), clip(num_frames=2, size=50.0)
        reference.scores[:, :, [j for j in range(18) if j != NOSE]] = 0.0
        fit = fit_robust(driving, reference)
        assert fit.scale == (1.0, 1.0)
        aligned = pixels(align_pose(driving, reference, mode="robust"))
        np.testing.assert_allclose(aligned[0, 0, NOSE], (30.0, 40.0), atol=1e-6)

    def test_joints_in_one_point_say_nothing_about_size(self):
        driving = clip(num_frames=2)
        driving.points[:, :, BODY] = (0.4, 0.3)
        fit = fit_robust(driving, clip())
        assert fit.scale == (1.0, 1.0)
        assert np.isfinite(fit.offset).all()

    def test_nothing_in_common_brings_the_middles_together(self):
        reference, driving = clip(at=(30.0, 40.0)), clip(num_frames=2)
        reference.scores[:, :, 8:18] = 0.0
        driving.scores[:, :, :8] = 0.0
        fit = fit_robust(driving, reference)
        middle = driving.points[:, 0, 8:18].mean(axis=(0, 1)) * fit.scale + np.array(fit.offset)
        np.testing.assert_allclose(middle, reference.points[0, 0, :8].mean(axis=0))

    def test_nobody_in_the_reference_is_no_crash(self):
        nobody = PoseSequence(np.zeros((1, 0, 134, 2)), np.zeros((1, 0, 134)), 100, 100)
        fit = fit_robust(clip(num_frames=2), nobody)
        assert "nothing in common" in fit.basis
        np.testing.assert_allclose(
            clip().points[0, 0, BODY].mean(axis=0) * fit.scale + np.array(fit.offset), (0.5, 0.5)
        )
        np.testing.assert_allclose(fit_robust(nobody, clip()).scale, (100 / 100 * 160 / 120, 1.0))

    def test_a_walk_through_the_frame_is_centred_on_the_reference(self):
        driving = clip(num_frames=21, at=(20.0, 30.0), step=(4.0, 0.0))
        aligned = pixels(align_pose(driving, clip(), mode="robust", anchor="mean"))
        np.testing.assert_allclose(aligned[10, 0], pixels(clip())[0, 0], atol=1e-3)
        np.testing.assert_allclose(aligned[-1, 0, NOSE, 0] - aligned[0, 0, NOSE, 0], 80.0)

    def test_bent_knees_in_some_frames_do_not_make_the_person_larger(self):
        squat = STANDING.copy()
        squat[[0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 14, 15, 16, 17], 1] += 0.3
        squat[[9, 12], 1] += 0.1
        driving = clip(num_frames=10, size=80.0)
        driving.points[::3, 0] = (80.0 * person(squat) + [60, 30]) / [120, 160]
        assert scale_of(align_pose(driving, clip(), mode="robust"))[1] == pytest.approx(1.25, rel=0.04)


def test_none_keeps_the_fractions_and_takes_the_size():
    driving = clip(num_frames=2, height=108, width=192)
    aligned = align_pose(driving, clip(height=64, width=48), mode="none")
    np.testing.assert_array_equal(aligned.points, driving.points)
    assert (aligned.height, aligned.width, aligned.fps) == (64, 48, driving.fps)


def test_the_reference_frame_can_be_chosen():
    references = concatenate([clip(size=50.0), clip(size=100.0)])
    for mode in ("released", "robust"):
        aligned = align_pose(clip(size=25.0), references, mode=mode, reference_frame=1)
        np.testing.assert_allclose(scale_of(aligned), (4.0, 4.0))


def test_what_was_done_is_told_and_can_be_saved(tmp_path):
    aligned = align_pose(clip(), clip(size=50.0), mode="robust")
    loaded = PoseSequence.load(aligned.save(tmp_path / "aligned.npz"))
    assert loaded.metadata["source"] == "test"
    assert loaded.metadata["alignment"]["mode"] == "robust"
    assert f"{len(ALIGNED_JOINTS)} joints" in loaded.metadata["alignment"]["basis"]


def test_an_unknown_mode_is_a_pose_error():
    with pytest.raises(PoseError, match="released, robust, limbs, none"):
        align_pose(clip(), clip(), mode="best")


@pytest.mark.parametrize("mode", ["released", "robust", "limbs", "none"])
def test_each_mode_tells_what_its_fit_rests_on(mode):
    told = align_pose(clip(num_frames=3), clip(size=50.0), mode=mode).metadata["alignment"]
    basis = {
        "released": "14 joints in 3 frames",
        "robust": "body lengths; 14 joints in 3 frames",
        "limbs": "12 bones; 14 joints in 3 frames",
        "none": "nothing",
    }
    keys = {"mode", "scale", "offset", "basis"}
    keys |= {"robust": {"anchor"}, "limbs": {"anchor", "factors"}}.get(mode, set())
    assert told.keys() == keys
    assert (told["mode"], told["basis"]) == (mode, basis[mode])
    assert told.get("anchor", "ground") == "ground"
    assert all(factor == round(factor, 4) for factor in told.get("factors", {}).values())


@pytest.mark.parametrize("mode", ["robust", "limbs"])
def test_an_anchor_that_is_given_is_taken(mode):
    driving = clip(num_frames=9, at=(20.0, 30.0), step=(4.0, 0.0))
    for anchor in ("mean", "first"):
        told = align_pose(driving, clip(), mode=mode, anchor=anchor).metadata["alignment"]
        assert told["anchor"] == anchor


@pytest.mark.parametrize("mode", ["robust", "limbs"])
def test_points_of_every_person_move_alike(mode):
    two = beside(clip(num_frames=2, size=50.0), clip(num_frames=2, size=50.0, at=(90.0, 30.0)))
    one = align_pose(clip(num_frames=2, size=50.0), clip(size=100.0), mode=mode)
    both = align_pose(two, clip(size=100.0), mode=mode)
    np.testing.assert_allclose(both.points[:, 0], one.points[:, 0], atol=1e-9)
    np.testing.assert_allclose(pixels(both)[:, 1] - pixels(both)[:, 0], [[[60.0, 0.0]] * 134] * 2, atol=0.5)


def test_a_clip_that_shows_nobody_is_told_as_such_or_put_in_the_middle():
    nobody = clip(num_frames=2)
    nobody.scores[:] = 0.0
    with pytest.raises(PoseError, match=r"^every frame of the driving clip shows nobody; the released"):
        fit_released(nobody, clip())
    crowd = beside(clip(num_frames=2), clip(num_frames=2, at=(90.0, 30.0)))
    with pytest.raises(PoseError, match=r"shows more than one person or nobody; the released"):
        fit_released(crowd, clip())
    fit = fit_robust(nobody, clip())
    np.testing.assert_allclose(
        np.array([0.5, 0.5]) * fit.scale + np.array(fit.offset), clip().points[0, 0, BODY].mean(axis=0)
    )


def test_lengths_between_any_joints_are_named_as_the_basis():
    reference, driving = clip(), clip(num_frames=2)
    hidden = [joint for joint in range(18) if joint not in (NOSE, LEFT_SHOULDER)]
    reference.scores[:, :, hidden] = 0.0
    assert fit_robust(driving, reference).basis == "lengths between any joints; 2 joints in 2 frames"
