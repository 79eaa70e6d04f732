import numpy as np

from mimic.dancers import World, render, sample_character, sample_motion
from pose import load_estimator
from pose.skeletons import BODY, FACE


def test_the_bundled_estimator_recognises_the_dancers() -> None:
    estimator = load_estimator("blazepose", num_threads=1)
    num_found = num_faces = 0
    errors = []
    for seed in range(10):
        rng = np.random.default_rng(100 + seed)
        character, motion = (
            sample_character(rng, World.plain()),
            sample_motion(rng, World.plain(), duration_s=3),
        )
        clip = render(character, motion, [0.3, 1.1, 2.2], 384, 384)
        for frame, exact in zip(clip.frames, clip.poses.frames()):
            found = estimator.image(frame)
            if found.num_people == 0:
                continue
            num_found += 1
            num_faces += bool(found.scores[0, 0, FACE].max() > 0.5)
            errors.append(np.linalg.norm(found.points[0, 0, BODY] - exact.points[0, 0, BODY], axis=-1))
    assert num_found >= 27  # of 30
    assert num_faces >= 25
    assert np.median(errors) <= 0.03
    # Left is left: a swap would put shoulders, hips and ankles at the other side.
    assert np.median(errors, axis=0).max() <= 0.03
