"""How errors of commands end: every error class of ours has its exit code, in one place."""

import ast
import re
import sys
from pathlib import Path

import pytest

import mimic
import pose
from mimic.cli import main
from mimic.cli.main import FAILED, MISTAKE, MISTAKES, described
from mimic.config import ConfigError
from mimic.video.write import VideoWriteError
from pose.dwpose import EstimatorWeightsError

FAILURES = {
    "CacheError", "CancelledError", "ClusterError", "DownloadError", "FileInUseError", "NotFiniteError",
    "RankError", "ResultInUseError", "StateError", "TrainingError", "UnknownStateError", "ValidationError",
    "VideoWriteError",
}  # fmt: skip
"""Our error classes that are not about the user's input (exit code 1)."""


def error_classes() -> set[str]:
    """Names of all exception classes that the two packages define."""
    sources = [path for package in (mimic, pose) for path in Path(package.__file__).parent.rglob("*.py")]
    texts = (path.read_text(encoding="utf-8") for path in sources)
    return {name for text in texts for name in re.findall(r"^class (\w+Error)\(", text, re.MULTILINE)}


def test_every_error_class_has_an_exit_code():
    assert error_classes() == MISTAKES | FAILURES
    assert not MISTAKES & FAILURES


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("seed is wrong"), MISTAKE, "seed is wrong"),
        (EstimatorWeightsError("no weights"), MISTAKE, "no weights"),
        (FileNotFoundError("there is no clip"), MISTAKE, "there is no clip"),
        (VideoWriteError("disk full"), FAILED, "disk full"),
        (PermissionError(13, "Permission denied", "a"), FAILED, "[Errno 13] Permission denied: 'a'"),
        (KeyError("x"), FAILED, "KeyError: 'x'\n(--debug shows the traceback)"),
        (RuntimeError(), FAILED, "RuntimeError: RuntimeError\n(--debug shows the traceback)"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(error, code, text):
    assert described(error) == (code, text)


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mimic ")


def test_no_command_file_imports_anything_heavy():
    folder = Path(mimic.__file__).parent / "cli"
    allowed = {"mimic.cli", "mimic.sampling.windows", "pose.text"}
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                is_light = name.partition(".")[0] in sys.stdlib_module_names
                assert is_light or any(name == a or name.startswith(f"{a}.") for a in allowed), (
                    path.name,
                    name,
                )
