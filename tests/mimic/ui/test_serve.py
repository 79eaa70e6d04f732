"""How the studio is served: to this machine alone, with sentences for what cannot be, and an orderly end."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mimic.cli import main
from mimic.ui import serve as module
from mimic.ui.serve import serve


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Gradio is given, in place of serving."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **named: given.update(named))
    for name in ("no_proxy", "NO_PROXY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # restored afterwards
    return given


def test_nothing_is_shared_unless_asked(
    launched: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SHARE", "true")
    serve(tmp_path, device="cpu", is_blocking=False)
    assert (launched["share"], launched["server_name"]) == (False, "127.0.0.1")


def test_it_is_served_from_a_cache_and_behind_a_proxy(
    launched: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uvx` installs below ~/.cache; a proxy cannot answer for this machine."""
    monkeypatch.setenv("no_proxy", "intern.example")
    serve(tmp_path, device="cpu", is_blocking=False)
    assert not launched.get("blocked_paths")
    for name in ("no_proxy", "NO_PROXY"):
        assert os.environ[name] == "intern.example,127.0.0.1,localhost"


def test_an_interrupt_ends_it_as_other_commands(
    launched: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    closed: list[bool] = []
    monkeypatch.setattr(module.time, "sleep", interrupt)
    monkeypatch.setattr(gr.Blocks, "close", lambda self, **named: closed.append(True))
    arguments = ["ui", "--device", "cpu", "--output-dir", str(tmp_path), "--host", "0.0.0.0"]
    assert main(arguments) == 130
    assert closed == [True]
    said = capsys.readouterr().err
    assert "the studio is at http://127.0.0.1:7860, and at this machine's other addresses" in said
    assert "interrupted" in said


def test_a_taken_port_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["ui", "--device", "cpu", "--port", port, "--output-dir", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    assert f"port {port}: the port is taken" in (said := capsys.readouterr().err)
    assert "choose another --port" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "99999"], ["--port", "0"], ["--max-upload", "0"], ["--max-seconds", "nan"],
        ["--max-seconds", "0"], ["--model", "nothere"], ["--device", "tpu"],
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_once(
    launched: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["ui", "--output-dir", str(tmp_path), *arguments]) == 2
    assert arguments[-1] in capsys.readouterr().err
    assert launched == {}
