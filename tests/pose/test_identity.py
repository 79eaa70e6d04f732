"""Several people keep their places while they cross, are hidden, or leave and come back."""

import numpy as np

from pose import PoseSequence
from pose.identity import keep_identities
from tests.pose.figures import beside, clip

WIDE = {"height": 160, "width": 400, "fps": 10.0, "num_frames": 21}


def crossing() -> PoseSequence:
    """Two people of one size who change places, one of whom is hidden for three frames in the middle."""
    right = clip(at=(60.0, 30.0), step=(14.0, 0.0), jitter=0.5, **WIDE)
    left = clip(at=(340.0, 30.0), step=(-14.0, 0.0), jitter=0.5, seed=1, **WIDE)
    both = beside(right, left)
    both.is_present[9:12, 0] = False
    return both


def shuffled(poses: PoseSequence, seed: int) -> PoseSequence:
    rng = np.random.default_rng(seed)
    for frame in range(len(poses)):
        order = rng.permutation(poses.num_people)
        for array in (poses.points, poses.scores, poses.is_present):
            array[frame] = array[frame, order]
    return poses


def test_people_who_cross_keep_their_places() -> None:
    for seed in range(5):
        kept = keep_identities(shuffled(crossing(), seed))
        assert kept.num_people == 2
        ways = np.sort(kept.points[-1, :, 0, 0] - kept.points[0, :, 0, 0])
        np.testing.assert_allclose(ways, [-0.7, 0.7], atol=0.02)
        assert kept.is_present.sum() == 2 * 21 - 3


def test_who_comes_back_takes_the_former_place() -> None:
    both = beside(clip(at=(60.0, 30.0), **WIDE), clip(at=(300.0, 30.0), size=60.0, **WIDE))
    both.is_present[4:18, 1] = False
    both.points[18:, 1, :, 0] -= 0.5  # at the other side of the picture
    kept = keep_identities(shuffled(both, 0))
    assert kept.num_people == 2
    assert kept.is_present.sum(axis=0).tolist() in ([21, 7], [7, 21])


def test_more_people_than_are_permuted_are_kept_apart() -> None:
    crowd = beside(*(clip(at=(40.0 + 50 * i, 30.0), size=60.0, **WIDE) for i in range(7)))
    kept = keep_identities(shuffled(crowd, 0))
    assert kept.num_people == 7
    np.testing.assert_allclose(np.ptp(kept.points[:, :, 0, 0], axis=0), 0.0, atol=1e-9)


def test_nobody_is_nobody() -> None:
    assert keep_identities(clip(num_frames=3, score=0.0)).num_people == 0
