"""`mimic pose --adjust`: corrections from a file are applied, recorded, and part of a result's identity."""

from pathlib import Path

import numpy as np
import pytest

from mimic.cli.main import main
from mimic.dancers import World, render, sample_character, sample_motion
from mimic.video import write_image
from pose import PoseSequence


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng, world = np.random.default_rng(3), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1)
    write_image("me.png", render(character, motion, [0.0], 384, 384).frames[0])
    return Path("me.png")


def test_corrections_are_applied_recorded_and_make_another_result(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fix.yaml").write_text("adjust: {offset: [0.1, 0.0]}\n")
    command = ["pose", str(picture), "--estimator", "blazepose"]
    assert main(command) == 0
    assert main([*command, "--adjust", "fix.yaml"]) == 0
    before, after = PoseSequence.load("me.1.npz"), PoseSequence.load("me.npz")
    np.testing.assert_allclose(after.points - before.points, np.broadcast_to([0.1, 0.0], after.points.shape))
    assert after.metadata["adjust"]["offset"] == [0.1, 0.0]
    assert main([*command, "--adjust", "fix.yaml"]) == 0
    assert "kept, unchanged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("scael: 2\n", "fix.yaml: adjust has no 'scael'; did you mean scale"),
        ("- 1\n", "fix.yaml holds no keys"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    picture: Path, content: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fix.yaml").write_text(content)
    assert main(["pose", str(picture), "--adjust", "fix.yaml"]) == 2
    assert expected in capsys.readouterr().err
    assert main(["pose", str(picture), "--adjust", "none.yaml"]) == 2
    assert not Path("me.npz").exists()
