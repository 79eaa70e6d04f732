"""A pipeline is published with a card that states licence, settings and metrics."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.registry import load_pipeline


@dataclass
class Uploads:
    """What was sent to the hub."""

    folder: Path
    has_card: bool = False
    messages: list[str] = field(default_factory=list)

    def create_repo(self, repo_id: str, **_: Any) -> huggingface_hub.RepoUrl:
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def file_exists(self, repo_id: str, filename: str, **_: Any) -> bool:
        assert (repo_id, filename) == ("me/dancer", "README.md")
        return self.has_card

    def upload_folder(self, *, folder_path: Path, commit_message: str, **_: Any) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(folder_path, self.folder)
        self.messages.append(commit_message)
        return "https://huggingface.co/me/dancer/commit/1"


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """The functions of huggingface_hub that reach the network, in place of them a folder."""
    uploads = Uploads(tmp_path / "hub")
    for name in ("create_repo", "file_exists", "upload_folder"):
        monkeypatch.setattr(huggingface_hub, name, getattr(uploads, name))
    return uploads


def test_weights_without_a_card_get_one_with_what_is_known(uploads: Uploads) -> None:
    pipe = tiny_pipeline(height=32, width=32, seed=0)
    pipe.generation_defaults = {"tile_size": 4, "warning": "a | b"}
    assert pipe.push_to_hub("me/dancer", token="none").endswith("/commit/1")
    card = (uploads.folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: other\nlicense_name: ")
    for text in (
        "# MimicMotion",
        "which is not known here",
        "| `tile_size` | 4 |",
        "a \\| b",
        "Metrics: none are stated",
    ):
        assert text in card
    assert 'load_pipeline("me/dancer")' in card
    assert load_pipeline(uploads.folder, device="cpu").generation_defaults["tile_size"] == 4
    assert uploads.messages == ["Upload MimicMotionPipeline"]


def test_the_card_of_a_training_is_published_and_one_that_is_there_is_kept(
    uploads: Uploads, tmp_path: Path
) -> None:
    tiny_pipeline(height=32, width=32, seed=0).save_pretrained(tmp_path / "final")
    (tmp_path / "final" / "README.md").write_text('---\nlicense: other\n---\n| psnr | 20 |\n("FOLDER")\n')
    (tmp_path / "final" / "lora.safetensors").write_bytes(b"lora")
    pipe = load_pipeline(tmp_path / "final", device="cpu")
    pipe.save_pretrained(tmp_path / "copy", push_to_hub=True, repo_id="me/dancer", commit_message="mine")
    assert (uploads.folder / "README.md").read_text().endswith('| psnr | 20 |\n("me/dancer")\n')
    assert (uploads.folder / "lora.safetensors").read_bytes() == b"lora"
    assert (uploads.folder / "mimic.json").is_file()
    assert uploads.messages == ["mine"]
    uploads.has_card = True
    pipe.push_to_hub("me/dancer")
    assert not (uploads.folder / "README.md").exists()


def test_a_bundled_miniature_states_the_packages_licence(uploads: Uploads) -> None:
    load_pipeline("bundled:mini", device="cpu").push_to_hub("me/dancer")
    card = (uploads.folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "synthetic dancers only" in card
