"""Do the seams between windows show? Long clips of the bundled miniature, fused in each of the four ways.

The jump at a seam is `mimic.metrics.video.seam_jump`: the largest change from frame to frame within the
passage from one window to the next, over the largest within as many steps elsewhere. All ways have the same
windows and so the same seams; the truth's ratio at them, 1 but for chance, is what a seamless clip gives.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.ablation.settings import AblationSettings
from benchmarks.mini_quality import make_case
from mimic.families.registry import load_pipeline
from mimic.files import write_json
from mimic.metrics.image import psnr
from mimic.metrics.seams import WindowLayout
from mimic.metrics.video import changes, seam_jump
from pose import draw_pose

MODEL = "bundled:mini"
FIRST_SEED = 960_000
WAYS = ("released", "progressive", "average", "none")
SAMPLINGS: dict[str, dict[str, Any]] = {
    "as shipped: 1 step, one noise for all frames": {},
    "4 steps, a window's noise repeated": {"num_inference_steps": 4, "noise": "window"},
}


def run(settings: AblationSettings, *, pipe: Any = None, progress: bool = True) -> None:
    """Measure clip by clip into `fusion.json` in the results; clips that are in it are not done again.

    Args:
        pipe: what draws, in place of the bundled miniature.
    """
    path = settings.results / "fusion.json"
    layout = WindowLayout(settings.tile_size, settings.tile_overlap, "reference")
    seams = layout.seams(settings.fusion_frames)
    facts = {
        "model": MODEL,
        "frames": settings.fusion_frames,
        "fps": settings.clip_fps,
        "tile_size": settings.tile_size,
        "tile_overlap": settings.tile_overlap,
        "seams": [[seam.start, seam.stop - 1] for seam in seams],
    }
    found = json.loads(path.read_text()) if path.exists() else {"clips": []}
    clips = found["clips"] if found == facts | {"clips": found["clips"]} else []
    pipe = load_pipeline(MODEL) if pipe is None else pipe
    pipe.set_progress_bar_config(disable=True)
    for number in tqdm(range(len(clips), settings.fusion_clips), desc="long clips", disable=not progress):
        clips.append(_measure_clip(pipe, number, seams, settings))
        write_json(path, facts | {"clips": clips})


def _measure_clip(pipe: Any, number: int, seams: list[range], settings: AblationSettings) -> dict[str, Any]:
    """The truth's jump, and for each sampling and way the jumps and errors of the clip that is made."""
    size = (pipe.generation_defaults["height"], pipe.generation_defaults["width"])
    clip, _ = make_case(
        FIRST_SEED + number, num_frames=settings.fusion_frames, fps=settings.clip_fps, size=size
    )
    maps = draw_pose(clip.poses, *size, canvas_short_side=pipe.generation_defaults["canvas_short_side"])
    truth = clip.frames[1:]
    row: dict[str, Any] = {"truth": seam_jump(changes(truth), seams)}
    for sampling, arguments in SAMPLINGS.items():
        row[sampling] = {}
        for way in WAYS:
            output = pipe(
                clip.frames[0],
                torch.from_numpy(maps.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1,
                tile_size=settings.tile_size,
                tile_overlap=settings.tile_overlap,
                fusion=way,
                generator=torch.Generator().manual_seed(number),
                output_type="np",
                **arguments,
            )
            frames = (output.frames[0][1:] * 255).round().clip(0, 255).astype(np.uint8)
            beyond = changes(frames, truth)
            row[sampling][way] = {
                "jump": seam_jump(changes(frames), seams),
                "jump_beyond_truth": seam_jump(beyond, seams),
                "change_beyond_truth": float(beyond.mean()),
                "psnr": psnr(frames, truth),
            }
    return row
