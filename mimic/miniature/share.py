"""Keep equal weights of the bundled models once: `python -m mimic.miniature.share`.

The first model by name keeps its file; `shared.json` takes the place of each equal file of the others.
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


def share() -> None:
    """Replace equal files."""
    for path, other in equal_files(weights_of_bundled_models()).items():
        note = {"weights": other.relative_to(ASSETS).as_posix(), "sha256": sha256(other)}
        write_json(path.with_name(SHARED_FILE), note)
        path.unlink()
        print(f"{path.relative_to(ASSETS)} is that of {other.relative_to(ASSETS)}")


if __name__ == "__main__":
    share()
