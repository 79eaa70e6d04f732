"""A comparison measures seams at the windows that each of its runs used."""

import json

import numpy as np
import pytest

from mimic.compare.run import compare
from mimic.compare.settings import CompareConfig
from mimic.config.loading import build
from mimic.families.animate_anyone.tiny import tiny_pipeline
from mimic.metrics.clips import find_clips
from mimic.metrics.video import changes, seam_jump, seam_steps
from mimic.sampling.windows import lay_windows


def test_closed_and_sliding_windows_of_one_family_are_told_apart(tmp_path):
    pipeline = tiny_pipeline(height=32, width=32, seed=0)
    pipeline.generation_defaults["canvas_short_side"] = 256
    pipeline.save_pretrained(tmp_path / "model")
    settings = {"tile_size": 4, "frames_overlap": 0, "num_inference_steps": 1, "guidance_scale": 1.0}
    layouts = {"average": "closed", "progressive": "sliding"}
    config = build(
        CompareConfig,
        {
            "output_dir": str(tmp_path / "out"),
            "clips": {"num_clips": 1, "num_frames": 11},
            "device": "cpu",
            "common": settings,
            "variants": [
                {"name": fusion, "model": str(tmp_path / "model"), "settings": {"fusion": fusion}}
                for fusion in layouts
            ],
        },
    )
    assert compare(config).failures == ()
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    (truth,) = find_clips(tmp_path / "out/clips/dancer_000/truth").values()
    for row in rows:
        (made,) = find_clips(tmp_path / "out" / row["video"]).values()
        found = changes(np.stack(list(made.frames())), np.stack(list(truth.frames())))
        by_layout = {
            layout: seam_jump(found, seam_steps(lay_windows(11, 4, 0, layout))) for layout in layouts.values()
        }
        assert by_layout["closed"] != pytest.approx(by_layout["sliding"])
        assert row["metrics"]["seam_jump"] == pytest.approx(by_layout[layouts[row["variant"]]])
