"""Reports are served with the files that they name, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mimic.ui.reports import Reports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "reports" / "a run"
    (run / "validation").mkdir(parents=True)
    (run / "report.html").write_text(
        '<h1>Losses</h1><video src="validation/step-1.mp4"></video>'
        '<a href="validation/a%20&amp;%20b.mp4">b</a>'
        '<a href="../../secret.txt">c</a><a href="gone.mp4">d</a>',
        encoding="utf-8",
    )
    (run / "validation" / "step-1.mp4").write_bytes(b"0123456789")
    (run / "validation" / "a & b.mp4").write_bytes(b"b")
    (run / "validation" / "other.mp4").write_bytes(b"other")
    (tmp_path / "secret.txt").write_text("secret")
    return run.parent


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(Starlette(routes=[Reports(folder).route()]))


def test_a_report_comes_without_access_to_the_page(client: TestClient) -> None:
    answer = client.get("/reports/a%20run/report.html")
    assert (answer.status_code, "<h1>Losses" in answer.text) == (200, True)
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"


@pytest.mark.parametrize(("name", "content"), [("step-1.mp4", b"0123456789"), ("a%20%26%20b.mp4", b"b")])
def test_files_that_it_names_are_served(client: TestClient, name: str, content: bytes) -> None:
    answer = client.get(f"/reports/a%20run/validation/{name}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "video/mp4"


def test_players_can_seek(client: TestClient) -> None:
    answer = client.get("/reports/a%20run/validation/step-1.mp4", headers={"range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")


@pytest.mark.parametrize(
    "name",
    [
        "a%20run/validation/other.mp4", "a%20run/gone.mp4", "a%20run", "a%20run/%00", "%2E%2E/secret.txt",
        "a%20run/%2E%2E/%2E%2E/secret.txt", "/etc/passwd", "%2Fetc%2Fpasswd", "nowhere/report.html",
        "a%20run/linked.mp4", "a%20run/" + "x" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is_served(client: TestClient, folder: Path, name: str) -> None:
    (folder / "a run" / "linked.mp4").symlink_to(folder.parent / "secret.txt")
    assert client.get(f"/reports/{name}").status_code == 404


def test_reports_are_found_newest_first_and_odd_ones_passed_over(folder: Path) -> None:
    for name in ("later", ".venv/lib", "link", "a/b/c/d/e/f", "a/b/c/d/e/f/g"):
        (folder / name).mkdir(parents=True)
    (folder / "link" / "report.html").symlink_to(folder / "nowhere.html")
    for name in (".venv/lib", "a/b/c/d/e/f", "a/b/c/d/e/f/g", "later"):
        (folder / name / "report.html").write_bytes(b"\xff")
    reports = Reports(folder)
    assert sorted(reports.names()) == ["a run/report.html", "a/b/c/d/e/f/report.html", "later/report.html"]
    assert reports.names()[-1] == "a run/report.html"
    assert reports.address("a run/report.html") == "reports/a%20run/report.html"
