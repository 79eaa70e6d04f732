"""The windows that a clip was made in, from the JSON beside it."""

import json

import pytest

from mimic.metrics.seams import WindowLayout, layout_beside, layout_of_run
from mimic.metrics.video import seam_steps
from mimic.sampling.windows import lay_windows


def run(pipeline: str, **settings: object) -> dict:
    return {"model": {"pipeline": pipeline}, "settings": {"tile_size": 8, "tile_overlap": 3, **settings}}


@pytest.mark.parametrize(
    ("report", "layout"),
    [
        (run("MimicMotionPipeline", windows="reference", fusion="released"), "reference"),
        (run("AnimateAnyonePipeline", windows="closed", fusion="average"), "closed"),
        (run("MagicAnimatePipeline", windows="sliding", fusion="average"), "sliding"),
        (run("SomeOtherPipeline", windows="closed", fusion="average"), "closed"),
        # As earlier versions wrote them:
        (run("MimicMotionPipeline", windows=None, fusion="progressive"), "reference"),
        (run("MimicMotionPipeline", fusion="none"), "reference"),
        (run("AnimateAnyonePipeline", windows="closed", fusion="progressive"), "sliding"),
        (run("MagicAnimatePipeline", windows="closed", fusion="none"), "sliding"),
        (run("MagicAnimatePipeline", fusion="none"), "sliding"),
        (run("AnimateAnyonePipeline", fusion="average"), "closed"),
    ],
)
def test_the_layout_is_the_one_that_the_run_used(report, layout):
    assert layout_of_run(report) == WindowLayout(8, 3, layout)


@pytest.mark.parametrize(
    "report",
    [
        {},
        [],
        {"model": {"pipeline": "x"}, "settings": {"tile_size": float("inf"), "tile_overlap": 1}},
        {"settings": {"tile_size": 8}, "model": {"pipeline": "MimicMotionPipeline"}},
        run("MimicMotionPipeline", tile_size=None),
        run("MimicMotionPipeline", tile_size="many"),
        run("MimicMotionPipeline", tile_overlap=-1),
        run("AnimateAnyonePipeline", windows="open"),
        run("SomeOtherPipeline"),
    ],
)
def test_what_a_json_does_not_tell_is_unknown(report):
    assert layout_of_run(report) is None


def test_an_overlap_that_an_earlier_version_wrote_too_large_is_the_one_it_used():
    assert layout_of_run(run("AnimateAnyonePipeline", tile_size=3, tile_overlap=4)) == WindowLayout(
        3, 2, "closed"
    )


def test_the_reference_is_no_frame_of_the_clip():
    layout = WindowLayout(8, 3, "reference")
    assert layout.seams(16) == seam_steps(lay_windows(17, 8, 3, "reference"), first_frame=1)
    assert WindowLayout(8, 3, "closed").seams(16) == seam_steps(lay_windows(16, 8, 3, "closed"))


def test_the_json_of_a_video_and_of_a_folder_lie_beside_it(tmp_path):
    assert layout_beside(tmp_path / "a.mp4") is None
    report = run("AnimateAnyonePipeline", windows="closed")
    (tmp_path / "a.json").write_text(json.dumps(report))
    (tmp_path / "take 1.5").mkdir()
    (tmp_path / "take 1.5.json").write_text(json.dumps(report))
    assert layout_beside(tmp_path / "a.mp4") == layout_beside(tmp_path / "take 1.5")
    assert layout_beside(tmp_path / "a.mp4") == WindowLayout(8, 3, "closed")
    (tmp_path / "a.json").write_text('{"settings": ')
    assert layout_beside(tmp_path / "a.mp4") is None
