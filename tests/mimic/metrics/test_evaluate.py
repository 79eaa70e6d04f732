"""Clips against the truth: pairing, figures against single metrics, what is not measured, constant memory."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mimic.metrics.clips import EvaluatedClip, EvaluationError, Pair, find_clips, fitted, pair_clips
from mimic.metrics.evaluate import evaluate
from mimic.metrics.features import FeatureNetwork
from mimic.metrics.frechet import frechet_distance
from mimic.metrics.image import l1_disco_divided_by_area, psnr, psnr_disco_uint8_overflow, ssim
from mimic.metrics.protocols import PROTOCOLS
from mimic.metrics.seams import WindowLayout
from mimic.metrics.tools import Tools
from mimic.metrics.video import changes, flicker, seam_jump
from mimic.video import VideoWriter, write_image

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def moving(seed: int, num_frames: int, height: int = 24, width: int = 32, noise: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x, t = np.mgrid[:height, :width, :num_frames].transpose(0, 3, 1, 2)
    frames = np.stack([127 + 100 * np.sin((x + 2 * t) / 6 + c) * np.cos(y / 5) for c in range(3)], -1)
    return (frames + rng.integers(-noise, noise + 1, frames.shape)).clip(0, 255).astype(np.uint8)


def write_folder(folder: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames):
        write_image(folder / f"frame_{number}.png", frame)  # unpadded: 10 comes after 9


def write_video(path: Path, frames: np.ndarray) -> None:
    with VideoWriter(path, height=frames.shape[1], width=frames.shape[2], fps=8, crf=0) as writer:
        for frame in frames:
            writer.write(frame)


class Means(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("a", "b")):
        write_folder(tmp_path / "made" / name, moving(seed, 12, noise=30))
        write_folder(tmp_path / "true" / name, moving(seed, 12))
    return tmp_path / "made", tmp_path / "true"


def test_figures_are_the_means_of_single_metrics(folders):
    report = evaluate(pair_clips(*folders))
    made, true = ([moving(seed, 12, noise=noise) for seed in (0, 1)] for noise in (30, 0))
    expected = np.mean([psnr(m, t) for a, b in zip(made, true) for m, t in zip(a, b)])
    assert report["summary"]["psnr"]["value"] == pytest.approx(expected)
    assert report["summary"]["psnr"]["quantity"] == "mean over clips"
    assert report["summary"]["psnr"]["low"] <= expected <= report["summary"]["psnr"]["high"]
    assert report["clips"][1]["metrics"]["ssim"] == pytest.approx(
        np.mean([ssim(m, t) for m, t in zip(made[1], true[1])])
    )
    assert report["clips"][0]["metrics"]["flicker"] == pytest.approx(flicker(made[0], true[0]))
    assert report["protocol"]["name"] == "none"


def test_value_and_interval_are_of_one_quantity_when_clips_differ_in_length(tmp_path):
    for number in range(5):
        write_folder(tmp_path / "made" / f"short{number}", moving(number, 2, noise=60 + 4 * number))
        write_folder(tmp_path / "true" / f"short{number}", moving(number, 2))
    write_folder(tmp_path / "made" / "long", moving(9, 60, noise=2))
    write_folder(tmp_path / "true" / "long", moving(9, 60))
    report = evaluate(pair_clips(tmp_path / "made", tmp_path / "true"))
    for name, entry in report["summary"].items():
        if entry["value"] is None:
            continue
        found = [row["metrics"][name] for row in report["clips"]]
        assert entry["quantity"] == "mean over clips"
        assert entry["value"] == pytest.approx(np.mean(found))
        assert entry["low"] <= entry["value"] <= entry["high"]
    psnr_entry = report["summary"]["psnr"]
    frames = [
        psnr(m, t) for pair in pair_clips(tmp_path / "made", tmp_path / "true") for m, t in pair.frames()
    ]
    assert psnr_entry["mean_over_frames"] == pytest.approx(np.mean(frames))
    assert psnr_entry["mean_over_frames"] > psnr_entry["high"]


def test_what_is_absent_is_not_measured_and_never_a_number(folders):
    summary = evaluate(pair_clips(*folders))["summary"]
    for name in (
        "lpips",
        "fid",
        "fid_vid",
        "fvd",
        "seam_jump",
        "keypoint_error",
        "hand_confidence",
        "identity",
    ):
        assert summary[name]["value"] is None
        assert summary[name]["not_measured"]
    assert "--fid-vid-network" in summary["fid_vid"]["not_measured"]


def test_protocol_b_resizes_and_measures_as_the_script_does(folders):
    report = evaluate(pair_clips(*folders, size=(256, 256)), PROTOCOLS["B"])
    made, true = ([fitted(f, 256, 256) for f in moving(0, 12, noise=noise)] for noise in (30, 0))
    metrics = report["clips"][0]["metrics"]
    for name, metric in (
        ("l1_disco_divided_by_area", l1_disco_divided_by_area),
        ("psnr_disco_uint8_overflow", psnr_disco_uint8_overflow),
    ):
        assert metrics[name] == pytest.approx(np.mean([metric(m, t) for m, t in zip(made, true)]))
    assert report["protocol"]["size"] == (256, 256)
    assert any("resized" in note for note in report["notes"])


def test_protocol_a_says_that_clips_are_not_its_test_set(folders):
    notes = evaluate(pair_clips(*folders), PROTOCOLS["A"])["notes"]
    assert any("335" in note for note in notes)
    assert not PROTOCOLS["A"].departures([f"00{number}" for number in range(335, 341)])


def test_fid_and_fvd_by_networks_from_files(folders, tmp_path):
    path = tmp_path / "means.pt"
    torch.jit.script(Means()).save(str(path))
    tools = Tools(fid=FeatureNetwork("fid", str(path)), fvd=FeatureNetwork("fvd", str(path)))
    report = evaluate(pair_clips(*folders), tools=tools)
    features = []
    for noise in (30, 0):
        frames = np.concatenate([moving(seed, 12, noise=noise) for seed in (0, 1)])
        features.append(tools.fid(frames))
    gaussians = [stat for f in features for stat in (f.mean(axis=0), np.cov(f, rowvar=False))]
    assert report["summary"]["fid"]["value"] == pytest.approx(frechet_distance(*gaussians), abs=1e-9)
    assert report["summary"]["fid"]["num_features"] == 24
    assert "two clips of 16 frames" in report["summary"]["fvd"]["not_measured"]
    assert report["networks"]["fid"]["sha256"]


def test_clips_of_sixteen_frames_are_taken_at_the_protocols_stride(tmp_path):
    write_folder(tmp_path / "made", moving(0, 20, noise=30))
    write_folder(tmp_path / "true", moving(0, 20))
    path = tmp_path / "means.pt"
    torch.jit.script(Means()).save(str(path))
    tools = Tools(fid_vid=FeatureNetwork("fid_vid", str(path)))
    pairs = pair_clips(tmp_path / "made", tmp_path / "true")
    assert evaluate(pairs, PROTOCOLS["A"], tools)["summary"]["fid_vid"]["num_features"] == 5


def test_seams_are_measured_against_the_truth(folders):
    layout = WindowLayout(6, 1, "closed")  # 0-5, 5-10, and 10-11 with 0-3
    report = evaluate(pair_clips(*folders), layout=lambda pair: layout)
    seams = [range(4, 5), range(5, 7), range(10, 12)]
    expected = seam_jump(changes(moving(0, 12, noise=30), moving(0, 12)), seams)
    assert report["clips"][0]["metrics"]["seam_jump"] == pytest.approx(expected)


def test_equal_clips_are_perfect(folders):
    summary = evaluate(pair_clips(folders[1], folders[1]))["summary"]
    assert summary["l1"]["value"] == 0
    assert summary["psnr"]["value"] == 100
    assert summary["ssim"]["value"] == pytest.approx(1)
    assert summary["flicker"]["value"] == 0


def test_videos_and_folders_are_paired_by_name(tmp_path):
    write_video(tmp_path / "made" / "a.mp4", moving(0, 5))
    write_video(tmp_path / "made" / "a_side_by_side.mp4", moving(0, 5))
    write_folder(tmp_path / "true" / "a", moving(0, 5))
    (pair,) = pair_clips(tmp_path / "made", tmp_path / "true")
    assert (pair.name, pair.num_frames) == ("a", 5)
    made, true = zip(*pair.frames(), strict=True)
    # What H.264 leaves of these colours: it keeps one of four of them.
    assert np.abs(np.stack(made).astype(int) - np.stack(true)).mean() < 8
    assert list(find_clips(tmp_path / "made")) == ["a"]


def test_clips_that_cannot_be_compared_are_told(tmp_path):
    write_folder(tmp_path / "made" / "a", moving(0, 4))
    write_folder(tmp_path / "made" / "b", moving(0, 4))
    write_folder(tmp_path / "true" / "a", moving(0, 5))
    with pytest.raises(EvaluationError, match="b \\(no ground truth\\)"):
        pair_clips(tmp_path / "made", tmp_path / "true")
    with pytest.raises(EvaluationError, match="4 frames were generated and the truth has 5"):
        pair_clips(tmp_path / "made", tmp_path / "true", is_subset_allowed=True)
    (pair,) = pair_clips(tmp_path / "made", tmp_path / "true", is_subset_allowed=True, is_shortest_taken=True)
    assert pair.num_frames == 4
    with pytest.raises(FileNotFoundError, match="absent"):
        pair_clips(tmp_path / "absent", tmp_path / "true")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="holds no videos"):
        pair_clips(tmp_path / "empty", tmp_path / "true")
    write_folder(tmp_path / "tall", moving(0, 5, 40, 20))
    with pytest.raises(EvaluationError, match="another shape"):
        pair_clips(tmp_path / "tall", tmp_path / "true" / "a")


class Endless(EvaluatedClip):
    """Frames made as they are asked for."""

    def frames(self, num_frames: int | None = None) -> Iterator[np.ndarray]:
        base = moving(0, 8, self.height, self.width)
        for number in range(num_frames or self.num_frames):
            yield base[number % 8].copy()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("num_frames", "metrics"),
    [(1500, ("l1",)), pytest.param(10_000, ("l1", "psnr", "ssim"), marks=pytest.mark.slow)],
)
def test_thousands_of_frames_are_measured_in_constant_memory(tmp_path, num_frames, metrics):
    path = tmp_path / "means.pt"
    torch.jit.script(Means()).save(str(path))
    tools = Tools(fid=FeatureNetwork("fid", str(path)))
    tools.fid.prepared = lambda pixels: pixels  # resizing 10,000 frames to 299 x 299 would take minutes
    clip = Endless("long", tmp_path, (), num_frames, 96, 96, 25.0)
    protocol = replace(PROTOCOLS["none"], picture_metrics=metrics)
    resident_mb: dict[int, float] = {}

    def watch(done: int, total: int | None) -> None:
        if done % 500 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident_mb[done] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    report = evaluate([Pair("long", clip, clip, num_frames)], protocol, tools, progress=watch)
    assert report["summary"]["fid"]["num_features"] == num_frames
    # A thousand frames are 26 MB of each of the two clips, were they held.
    assert resident_mb[num_frames] - resident_mb[500] < 12
