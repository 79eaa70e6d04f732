"""A folder of small videos as people have them: dancers, a cut, and files that cannot serve."""

from pathlib import Path

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.data.prepare import Prepared, PrepareSettings, prepare
from mimic.video import VideoWriter

SIZE, FPS = 192, 8
SMALL = PrepareSettings(min_frames=8, min_size=128, val_share=0.5)


def dancer(seed: int, num_frames: int) -> np.ndarray:
    """Frames of one dancer, uint8 F x 192 x 192 x 3."""
    rng, world = np.random.default_rng(seed), World.plain()
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=num_frames / FPS)
    return render(character, motion, np.arange(num_frames) / FPS, SIZE, SIZE, supersample=1).frames


def write_video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, height=frames.shape[1], width=frames.shape[2], fps=FPS) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "videos"
    first, second = dancer(0, 12), dancer(1, 10)
    write_video(folder / "one.mp4", first)
    write_video(folder / "deep" / "two shots.MOV", np.concatenate([second, first[:9], second[:4]]))
    write_video(folder / "duo.mkv", np.concatenate([first[:9], second[:9]], axis=2))
    write_video(folder / "empty room.mp4", np.full((9, SIZE, SIZE, 3), 120, np.uint8))
    write_video(folder / "tiny.mp4", first[:9, ::3, ::3])
    write_video(folder / "short.mp4", first[:3])
    (folder / "text.avi").write_text("no video at all")
    (folder / "notes.txt").write_text("no matter")
    (folder / "._one.mp4").write_text("what another system leaves beside a file")
    return folder


@pytest.fixture(scope="session")
def prepared(videos, tmp_path_factory) -> Prepared:
    """An undisturbed run."""
    found = prepare(videos, tmp_path_factory.mktemp("prepared") / "data", SMALL, num_workers=1)
    assert found is not None
    return found
