"""Keep equal weights of the bundled models once in the wheel: `python -m mimic.miniature.share`.

In a checkout each model folder is whole. Beside each file that is equal to one of an earlier model, by name,
lies a `shared.json` that names that one; the wheel leaves such files out (``exclude`` in pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mimic.files import ASSETS, write_json
from mimic.weights.sources import SHARED_FILE, sha256


def equal_files(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return which of the files, in their order, is equal to an earlier one, and to which."""
    first: dict[str, Path] = {}
    found = {path: first.setdefault(sha256(path), path) for path in paths}
    return {path: other for path, other in found.items() if path != other}


def weights_of_bundled_models() -> list[Path]:
    """Return the files of weights in the package's models."""
    return sorted(ASSETS.glob("*/*/*.safetensors"))


def note_of(other: Path) -> dict[str, str]:
    """Return the content of `shared.json` beside a file that is equal to `other`."""
    return {"weights": other.relative_to(ASSETS).as_posix(), "sha256": sha256(other)}


def share() -> None:
    """Write the notes beside equal files, and print the lines of pyproject.toml that exclude them."""
    for note in ASSETS.glob(f"*/*/{SHARED_FILE}"):
        note.unlink()
    for path, other in equal_files(weights_of_bundled_models()).items():
        write_json(path.with_name(SHARED_FILE), note_of(other))
        print(f'    "/mimic/assets/{path.relative_to(ASSETS).as_posix()}",')


if __name__ == "__main__":
    share()
