"""The live tab's requests: sentences for what is wrong, nothing for other sites' pages."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mimic.ui import live
from mimic.ui.live import LiveStage


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=LiveStage("cpu").routes()))


def test_other_sites_pages_are_refused(client: TestClient) -> None:
    answer = client.post("/live/start", headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert "other sites" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/live/nobody/frame", b"", "this live character has ended; press Start again"),
        ("/live/start", b"no picture", "this is no picture that can be read; use JPEG, PNG or WebP"),
        ("/live/start", bytes(21 * 2**20), "the picture has more than 20 MB"),
    ],
)
def test_what_is_wrong_is_a_sentence(client: TestClient, path: str, body: bytes, said: str) -> None:
    answer = client.post(path, content=body, headers={"origin": "http://testserver"})
    assert answer.status_code == 400
    assert answer.json()["error"] == said


def test_a_third_character_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 0)
    assert "0 live characters are running already" in client.post("/live/start").json()["error"]


def test_stopping_what_has_ended_is_no_error(client: TestClient) -> None:
    assert client.post("/live/nobody/stop").status_code == 204
