"""Where weights come from: folders, the package, the hub; and one sentence for all that can go wrong."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from mimic.cli.download import NAMES
from mimic.weights.download import RELEASES, Release, ReleasedFile, describe, fetch, size_text
from mimic.weights.errors import SourceError
from mimic.weights.sources import hub_file, resolve, resolve_checkpoint, sha256, snapshot, weight_files
from tests.hub import Hub, serve

SVD_LIKE = {
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"large",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"large too",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"vae",
    "vae/diffusion_pytorch_model.fp16.safetensors": b"vae16",
    "image_encoder/model.fp16.safetensors": b"clip16",
    "svd_xt.safetensors": b"everything once more",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    checkpoint = os.urandom(1000)
    repositories = {
        "made-up/svd": SVD_LIKE,
        "made-up/gated": SVD_LIKE,
        "made-up/mimic": {"big.pth": checkpoint},
    }
    with serve(Hub(repositories, gated={"made-up/gated"})) as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        yield hub


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Versions before 1.0 have a copy of it.
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path


def test_of_the_base_under_a_checkpoint_only_what_is_needed_is_fetched(hub: Hub) -> None:
    folder = resolve("made-up/svd", checkpoint="MimicMotion_1-1.pth")
    assert names(folder) == {
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "image_encoder/model.fp16.safetensors",
    }


def test_of_a_whole_model_the_parts_are_fetched_in_one_precision(hub: Hub) -> None:
    assert {name for name in names(resolve("hf:made-up/svd")) if name.endswith("safetensors")} == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in names(resolve("made-up/svd", variant="fp16"))


@pytest.mark.parametrize("checkpoint", [None, "x.pth"])
def test_parts_in_one_precision_or_format_alone_are_fetched_as_they_are(
    hub: Hub, checkpoint: str | None
) -> None:
    hub.repositories["made-up/svd"] = {
        "model_index.json": b"{}",
        "scheduler/scheduler_config.json": b"{}",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": b"unet",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.fp16.safetensors": b"vae16",
        "image_encoder/config.json": b"{}",
        "image_encoder/pytorch_model.bin": b"clip",
        "pose_net/config.json": b"{}",
        "pose_net/diffusion_pytorch_model.safetensors": b"pose",
    }
    folder = resolve("made-up/svd", checkpoint=checkpoint)
    own = ("unet", "pose_net") if checkpoint is None else ()  # a checkpoint brings these
    assert {name for name in names(folder) if not name.endswith("json")} == {
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "image_encoder/pytorch_model.bin",
        *(f"{part}/diffusion_pytorch_model.safetensors" for part in own),
    }


def test_files_of_a_models_choice_are_fetched(hub: Hub) -> None:
    folder = resolve("hf:made-up/svd", wanted=("vae/*.fp16.*", "unet/*.json"))
    assert names(folder) == {"vae/diffusion_pytorch_model.fp16.safetensors", "unet/config.json"}


def test_what_is_in_the_cache_is_used_without_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = resolve("made-up/svd", checkpoint="x")
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert resolve("made-up/svd", checkpoint="x") == folder
    assert resolve("made-up/svd", checkpoint="x", local_files_only=True) == folder


def test_a_gated_model_says_what_to_click(hub: Hub) -> None:
    with pytest.raises(
        SourceError, match=r"open http.*/made-up/gated, click 'Agree and access repository'.*HF_TOKEN"
    ):
        resolve("made-up/gated")


def test_an_unknown_model_and_file_are_said(hub: Hub) -> None:
    with pytest.raises(SourceError, match="neither a folder made-up/none here nor a model of that name"):
        resolve("made-up/none")
    with pytest.raises(SourceError, match=r"there is no file none\.pth in made-up/mimic"):
        resolve_checkpoint("hf:made-up/mimic/none.pth")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("local_files_only", [False, True])
def test_offline_with_nothing_cached_says_what_is_missing_and_how_to_get_it(local_files_only: bool) -> None:
    with pytest.raises(SourceError) as caught:
        resolve(
            "stabilityai/stable-video-diffusion-img2vid-xt-1-1",
            checkpoint="x",
            local_files_only=local_files_only,
        )
    message = str(caught.value)
    assert "stable-video-diffusion-img2vid-xt-1-1 is not on this machine" in message
    assert "`mimic download mimicmotion`" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("./none", r"there is no model folder none"),
        ("/none/there", "there is no model folder /none/there"),
        ("a/b/c", "there is no model folder a/b/c"),
        ("mini", "there is no model folder mini; did you mean bundled:mini\\?"),
        ("Animate_Anyone", "there is no model folder Animate_Anyone; did you mean animate-anyone\\?"),
        ("nothing", "there is no model folder nothing$"),
        ("models/x.pth", "there is no model folder"),
        ("hf:one", "expected a folder, a hub id"),
        ("bundled:maxi", "no model bundled:maxi comes with this package"),
    ],
)
def test_what_is_no_model_is_said(model: str, expected: str) -> None:
    with pytest.raises(SourceError, match=expected):
        resolve(model)


def test_a_file_is_no_model_and_a_folder_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"x")
    assert resolve_checkpoint(tmp_path / "a.pth") == tmp_path / "a.pth"
    with pytest.raises(SourceError, match="is a file; a model is a folder"):
        resolve(tmp_path / "a.pth")
    with pytest.raises(SourceError, match="is a folder; a checkpoint is one file"):
        resolve_checkpoint(tmp_path)
    with pytest.raises(SourceError, match=r"there is no checkpoint .*`mimic download mimicmotion`"):
        resolve_checkpoint(tmp_path / "MimicMotion_1-1.pth")
    with pytest.raises(SourceError, match="expected hf:owner/repository/file"):
        resolve_checkpoint("hf:owner/file.pth")


@pytest.mark.parametrize("resets", [False, True])
def test_a_download_that_breaks_off_goes_on(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resets: bool
) -> None:
    # huggingface_hub before 1.0 takes up none of these again by itself, later ones not those that are reset.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    content = os.urandom(5 << 20)
    hub.repositories["made-up/mimic"]["big.pth"] = content
    hub.break_after, hub.resets = 3 << 20, resets
    path = hub_file("made-up/mimic", "big.pth", folder=tmp_path / "models")
    assert path == tmp_path / "models" / "big.pth"
    assert path.read_bytes() == content
    (_, _, first), (_, _, second) = hub.sent
    assert first == ""
    if not resets:  # which throws away what was sent and not yet read
        assert int(second.removeprefix("bytes=").removesuffix("-")) >= 2 << 20


def test_a_connection_that_never_holds_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.break_after, hub.resets, hub.heals = 100, True, False
    with pytest.raises(SourceError, match=r"made-up/mimic could not be downloaded: .*Rerun the command"):
        hub_file("made-up/mimic", "big.pth", folder=tmp_path / "models")


def release_of(hub: Hub, **changes: object) -> Release:
    content = hub.repositories["made-up/mimic"]["big.pth"]
    settings = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changes
    file = ReleasedFile("made-up/mimic", "big.pth", **settings)  # type: ignore[arg-type]
    return Release("Made up", (file,), licence="none", base="made-up/svd", base_licence="none")


def test_a_release_is_fetched_once_and_checked(hub: Hub, tmp_path: Path) -> None:
    told: list[str] = []
    checkpoint, base = fetch(release_of(hub), tmp_path / "models", say=told.append)
    assert checkpoint.read_bytes() == hub.repositories["made-up/mimic"]["big.pth"]
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in names(base)
    assert any(line.startswith("big.pth") for line in told)
    hub.sent.clear()
    fetch(release_of(hub), tmp_path / "models", say=told.append)
    assert hub.sent == []
    assert "is already in" in told[-1]


def test_another_file_than_the_published_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not the published file"):
        fetch(release_of(hub, sha256="0" * 64), tmp_path / "a", say=lambda line: None)
    with pytest.raises(SourceError, match="has 1000 bytes, the published file 7"):
        fetch(release_of(hub, num_bytes=7), tmp_path / "b", say=lambda line: None)


def test_a_file_outside_the_hub_is_fetched_by_its_address_and_checked(hub: Hub, tmp_path: Path) -> None:
    url = f"{hub.url}/made-up/mimic/resolve/main/big.pth"
    (path,) = fetch(replace(release_of(hub, url=url), base=None), tmp_path, say=lambda line: None)
    assert path.read_bytes() == hub.repositories["made-up/mimic"]["big.pth"]
    other = replace(release_of(hub, url=url, sha256="0" * 64), base=None)
    with pytest.raises(SourceError, match="is not the published file"):
        fetch(other, tmp_path / "a", say=lambda line: None)
    for wrong, reason in (
        (f"{hub.url}/none/resolve/main/x", "Not Found"),
        ("http://127.0.0.1:9/x", "refused"),
    ):
        with pytest.raises(SourceError, match=f"could not be downloaded: .*{reason}"):
            fetch(replace(release_of(hub, url=wrong), base=None), tmp_path / "b", say=lambda line: None)
    assert not list((tmp_path / "b").iterdir())


def test_every_published_file_is_pinned_by_size_and_hash() -> None:
    assert set(RELEASES) == set(NAMES)
    for release in RELEASES.values():
        assert release.files or release.folders
        for file in release.files:
            assert file.num_bytes > 0
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or ""), file.name
            assert release.licence
    networks = describe(replace(RELEASES["metrics"], folders=()), Path("x"))
    for word in ("553 MB", "BSD-2-Clause", "from github.com/mseitzer/pytorch-fid to x"):
        assert word in networks


@pytest.mark.parametrize("name", RELEASES)
@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_remedy_is_the_same_command(name: str) -> None:
    repositories = {part.repository for part in RELEASES[name].folders}
    for repository in repositories - {"stabilityai/sd-vae-ft-mse"}:  # which two releases have
        with pytest.raises(SourceError, match=f"`mimic download {name}`"):
            snapshot(repository, wanted=["*"], local_files_only=True)


def test_too_little_space_is_said_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"free, and 1000000000\.00 GB are needed"):
        fetch(release_of(hub, num_bytes=10**18), tmp_path, say=lambda line: None)
    assert hub.sent == []


def test_sizes_and_licences_are_told(tmp_path: Path) -> None:
    text = describe(RELEASES["mimicmotion"], tmp_path)
    assert "4.51 GB in all" in text
    assert "MimicMotion_1-1.pth  3.05 GB" in text
    assert "research use only" in text
    assert RELEASES["mimicmotion"].needs_consent
    assert "Apache-2.0" in describe(RELEASES["dwpose"], tmp_path)
    assert "351 MB in all" in describe(RELEASES["dwpose"], tmp_path)
    assert (size_text(3), size_text(2_500_000_000)) == ("1 MB", "2.50 GB")


def test_hashes_of_weights_are_theirs(hub: Hub, tmp_path: Path) -> None:
    folder = resolve("made-up/svd", checkpoint="x")
    files = {name: sha256(path) for name, path in weight_files(folder).items()}
    assert files == {
        name: hashlib.sha256(SVD_LIKE[name]).hexdigest()
        for name in ("vae/diffusion_pytorch_model.fp16.safetensors", "image_encoder/model.fp16.safetensors")
    }
    (tmp_path / "own.safetensors").write_bytes(b"own")
    assert sha256(tmp_path / "own.safetensors") == hashlib.sha256(b"own").hexdigest()
