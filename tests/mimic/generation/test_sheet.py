"""The contact sheet of a result: what it shows, and when an older one is kept."""

from pathlib import Path

import numpy as np
import pytest

from mimic.generation.sheet import write_sheet
from mimic.results import ResultError
from mimic.video import VideoWriter, read_image, write_image


def write_side_by_side(path: Path, num_frames: int) -> Path:
    """Panels of 64x48: a grey reference, black maps, and results that become brighter."""
    with VideoWriter(path, height=64, width=3 * 48, fps=8.0) as writer:
        for number in range(num_frames):
            frame = np.zeros((64, 3 * 48, 3), np.uint8)
            frame[:, :48], frame[:, 96:] = 128, round(255 * number / max(1, num_frames - 1))
            writer.write(frame)
    return path


def test_a_sheet_shows_reference_maps_and_results_over_the_whole_clip(tmp_path: Path):
    video = write_side_by_side(tmp_path / "a.mp4", 24)
    write_sheet(video, tmp_path / "a.png")
    sheet = read_image(tmp_path / "a.png").astype(int)
    assert sheet.shape == (4 * 192, 7 * 144, 3)
    cells = sheet.reshape(4, 192, 7, 144, 3).mean(axis=(1, 3, 4))
    assert abs(cells[[1, 3], 0] - 128).max() < 8
    assert cells[[0, 2], :].max() < 8  # black maps, and nothing above the reference
    shown = cells[[1, 3], 1:].reshape(-1)
    assert (np.diff(shown) > 10).all()
    assert shown[0] < 8
    assert shown[-1] > 247


def test_a_sheet_of_the_same_video_is_kept_and_of_another_set_aside(tmp_path: Path):
    sheet = tmp_path / "a.png"
    assert write_sheet(write_side_by_side(tmp_path / "a.mp4", 2), sheet) is None
    first = sheet.read_bytes(), sheet.stat().st_mtime_ns
    assert write_sheet(tmp_path / "a.mp4", sheet) is None
    assert first == (sheet.read_bytes(), sheet.stat().st_mtime_ns)
    other = write_side_by_side(tmp_path / "b.mp4", 3)
    former = write_sheet(other, sheet)
    assert former == tmp_path / "a.1.png"
    assert former.read_bytes() == first[0]
    assert write_sheet(tmp_path / "a.mp4", sheet, overwrite=True) is None
    assert not (tmp_path / "a.2.png").exists()


def test_another_picture_is_never_replaced(tmp_path: Path):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ResultError, match=r"a\.png is there and is no contact sheet of mimic's"):
        write_sheet(write_side_by_side(tmp_path / "a.mp4", 2), tmp_path / "a.png")
