"""The contact sheet of a result: what it shows, and when an older one is kept."""

from pathlib import Path

import numpy as np
import pytest

from mimic.generation.panels import STRIP
from mimic.generation.sheet import write_sheet
from mimic.results import ResultError
from mimic.video import VideoWriter, read_image, write_image


def write_side_by_side(path: Path, num_frames: int, *, has_clip: bool = False) -> tuple[Path, Path]:
    """Labelled panels of a result of 64x48: a grey reference, a clip in a quarter of the brightness, black
    maps, and results that become brighter. Returns the side-by-side video and the result."""
    height, width = 6 * 64, 6 * 48
    beside = path.with_name(f"{path.stem}_side_by_side.mp4")
    size = {"height": STRIP + height, "width": (3 + has_clip) * width}
    with (
        VideoWriter(path, height=64, width=48, fps=8.0) as writer,
        VideoWriter(beside, fps=8.0, **size) as side,
    ):
        for number in range(num_frames):
            frame = np.zeros((size["height"], size["width"], 3), np.uint8)
            frame[:STRIP] = 255
            frame[STRIP:, :width] = 128
            if has_clip:
                frame[STRIP:, width : 2 * width] = 64
            brightness = round(255 * number / max(1, num_frames - 1))
            frame[STRIP:, -width:] = brightness
            side.write(frame)
            writer.write(np.full((64, 48, 3), brightness, np.uint8))
    return beside, path


@pytest.mark.parametrize("has_clip", [False, True])
def test_a_sheet_shows_reference_clip_maps_and_results_over_the_whole_clip(has_clip: bool, tmp_path: Path):
    write_sheet(*write_side_by_side(tmp_path / "a.mp4", 24, has_clip=has_clip), tmp_path / "a.png")
    sheet = read_image(tmp_path / "a.png").astype(int)
    rows = 2 + has_clip
    assert sheet.shape == (2 * rows * 192, 7 * 144, 3)
    cells = sheet.reshape(2, rows, 192, 7, 144, 3).mean(axis=(2, 4, 5))
    assert abs(cells[:, -1, 0] - 128).max() < 8
    assert cells[:, :-1, 0].min() > 247  # white paper above the reference
    assert cells[:, -2, 1:].max() < 8  # black maps
    if has_clip:
        assert abs(cells[:, 0, 1:] - 64).max() < 8
    shown = cells[:, -1, 1:].reshape(-1)
    assert (np.diff(shown) > 10).all()
    assert shown[0] < 8
    assert shown[-1] > 247


def test_a_sheet_of_the_same_video_is_kept_and_of_another_set_aside(tmp_path: Path):
    sheet = tmp_path / "a.png"
    first_video = write_side_by_side(tmp_path / "a.mp4", 2)
    assert write_sheet(*first_video, sheet) is None
    first = sheet.read_bytes(), sheet.stat().st_mtime_ns
    assert write_sheet(*first_video, sheet) is None
    assert first == (sheet.read_bytes(), sheet.stat().st_mtime_ns)
    other = write_side_by_side(tmp_path / "b.mp4", 3)
    former = write_sheet(*other, sheet)
    assert former == tmp_path / "a.1.png"
    assert former.read_bytes() == first[0]
    assert write_sheet(*first_video, sheet, overwrite=True) is None
    assert not (tmp_path / "a.2.png").exists()


def test_another_picture_is_never_replaced(tmp_path: Path):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ResultError, match=r"a\.png is there and is no contact sheet of mimic's"):
        write_sheet(*write_side_by_side(tmp_path / "a.mp4", 2), tmp_path / "a.png")
