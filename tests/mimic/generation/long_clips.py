"""Generate clips of several lengths in one process; print seconds and highest memory of each, as JSON.

python -m tests.mimic.generation.long_clips STAGE_FOLDER LENGTH...
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mimic import generate, load_pipeline
from pose import PoseSequence

WINDOW, OVERLAP, CHUNK = 64, 2, 32


def main(folder: Path, lengths: list[int]) -> None:
    """Generate a short clip to warm up, then one of each length."""
    torch.set_num_threads(1)
    pipeline = load_pipeline(folder / "model")
    reference_pose = PoseSequence.load(folder / "reference.npz")
    moves = PoseSequence.load(folder / "moves.npz")
    rows = []
    for length in [2 * WINDOW, *lengths]:
        poses = folder / f"moves_{length}.npz"
        replace(moves[np.arange(length) % len(moves)], metadata={}).save(poses)
        start = time.process_time()
        made = generate(
            folder / "reference.png", poses, pipeline=pipeline, output=folder / "long.mp4",
            reference_pose=reference_pose, overwrite=True, is_progress_shown=False, tile_size=WINDOW,
            tile_overlap=OVERLAP, decode_chunk_size=CHUNK, fps=10, audio="drop",
        )  # fmt: skip
        seconds = time.process_time() - start
        stages = json.loads(made.path.with_suffix(".json").read_text())["stages"]
        highest_mb = max(stage["peak_memory_mb"] for stage in stages)
        rows.append({"frames": length, "cpu_seconds": seconds, "highest_mb": highest_mb})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps(rows[1:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(length) for length in sys.argv[2:]])
