"""Every command in the documents is run here, or by the test that is named, or says why it is not."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mimic.cli import main
from mimic.dancers.write import synth
from mimic.files import ASSETS
from mimic.video import VideoWriter, read_frames
from tests.docs.test_site import BLOCK, DOCS, PAGES, commands, lines

ELSEWHERE = {
    r"mimic demo": "tests/mimic/cli/test_cli.py",
    r"mimic ui": "tests/mimic/ui",
    r"mimic download": "tests/mimic/cli/test_commands.py, from a hub on this machine",
    r"mimic train": "tests/mimic/training/test_launch.py and tests/mimic/miniature, at tiny size",
    r"mimic compare": "tests/mimic/compare, with a toy model",
    r"mimic .*--model mimicmotion": "needs the gated weights: not run",
    r"mimic evaluate .*-network": "needs the published networks: not run",
    r"mimic prepare --videos /shared": "needs a cluster: two ranks are run by tests/mimic/data/prepare",
    r"mimic .*--runner ray": "tests/mimic/test_cluster.py, on a cluster of this machine",
    r"accelerate launch .*-m mimic\.train": "tests/mimic/training/test_launch.py, two processes",
    r"torchrun .*-m mimic prepare": "two ranks are run by tests/mimic/data/prepare",
    r"export RANK=": "of an array of jobs: two ranks are run by tests/mimic/data/prepare",
    r"python -m mimic\.miniature": "tests/mimic/miniature, at tiny size",
    r"python -m benchmarks\.training_memory": "tests/benchmarks/test_training_memory.py",
    r"python benchmarks/mini_quality|make ablation": "hours: not run; tests/benchmarks runs their parts",
    r"make demo": ".ci/run",
    r"mkdir|source |\.venv|py dev\.py": "the shell's, git's or another system's: not run",
    r"(python -m )?pip install|ln -s": "changes this machine: not run",
}
"""The beginning of a command to where it is run, or why not."""
ALL = sorted({re.sub(r" +", " ", command.strip()) for page in PAGES for command in commands(page)})
HERE = [command for command in ALL if not any(re.match(pattern, command) for pattern in ELSEWHERE)]
LINES = sorted({re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line) for page in PAGES for line in lines(page)})
PYTHON_HERE = ("README.md", "PYPI.md", "docs/python.md")


def test_reasons_are_about_commands_that_are_there() -> None:
    unused = [pattern for pattern in ELSEWHERE if not any(re.match(pattern, line) for line in LINES)]
    assert unused == []
    assert len(HERE) >= 10


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_run_or_says_why_it_is_not(line: str) -> None:
    reasons = [reason for pattern, reason in ELSEWHERE.items() if re.match(pattern, line)]
    assert reasons or line in HERE
    for path in (path for reason in reasons for path in re.findall(r"(?:tests|\.ci)/[\w/.]+\w", reason)):
        assert (DOCS.parent / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_is_run_or_says_why_it_is_not(page: Path) -> None:
    name = page.relative_to(DOCS.parent).as_posix()
    blocks = [block for _, kind, block in BLOCK.findall(page.read_text("utf-8")) if kind == "python"]
    if name not in (*PYTHON_HERE, "docs/notebook.md"):  # test_site runs the notebook
        assert [block for block in blocks if not block.startswith("# not run here: ")] == []
    for reason in re.findall(r"^# not run here: (.*)$", "".join(blocks), re.MULTILINE):
        assert all((DOCS.parent / path).exists() for path in re.findall(r"tests/[\w/.]+\w", reason)), reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents take for granted: pictures, clips, results, the YAML of many cases."""
    folder = tmp_path_factory.mktemp("documents")
    picture = Image.open(ASSETS / "demo" / "reference.png").convert("RGB")
    (folder / "pictures").mkdir()
    for name in ("me.jpg", "you.jpg", "pictures/a.jpg"):
        picture.save(folder / name)
    frames = [frame for frame in read_frames(ASSETS / "demo" / "driving.mp4")][:28]
    with VideoWriter(folder / "dance.mp4", height=384, width=384, fps=2.0) as writer:  # 14 s
        for frame in frames:
            writer.write(frame)
    for name in ("results", "truth"):
        (folder / name).mkdir()
        with VideoWriter(folder / name / "clip.mp4", height=96, width=96, fps=8.0) as writer:
            for number in range(6):
                writer.write(np.full((96, 96, 3), 20 * number, np.uint8))
    synth(folder / "videos", num_clips=2, seconds=2.0, fps=12, seed=900)
    text = (DOCS / "first-video.md").read_text(encoding="utf-8")
    (many,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(yaml.safe_load(many)["test_case"]) == 2
    (folder / "mine.yaml").write_text(many, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("command", HERE)
def test_commands_in_documents_run(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if "dance.npz -o out.mp4" in command:
        assert main(["pose", "dance.mp4", "-o", "dance.npz"]) == 0
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", PYTHON_HERE)
def test_python_in_documents_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS.parent / page).read_text("utf-8"), re.DOTALL):
        if not block.startswith("# not run here"):
            exec(compile(block, page, "exec"), names)
    assert Path("dancing.mp4").is_file()
    assert page != "docs/python.md" or Path("first_frame.png").is_file()
