"""A cell of a comparison on disk, and whether it is still what its settings, clip and weights would give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.compare.inputs import ClipInputs, estimator_identity
from mimic.compare.settings import CompareConfig, VariantSettings
from mimic.files import local_path, remove_partial, write_json
from mimic.metrics.tools import Tools
from mimic.provenance import versions
from mimic.weights.sources import sha256

FORMAT = 2
"""Version of `cell.json` and of what it promises; cells of another one are made again."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One variant, one clip, one seed."""

    variant: VariantSettings
    clip: ClipInputs
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.variant.name}, {self.clip.name}, seed {self.seed}"

    @property
    def video(self) -> Path:
        return self.folder / f"{self.clip.name}.mp4"

    @property
    def record(self) -> Path:
        return self.folder / "cell.json"

    def clear(self) -> None:
        """Remove an earlier result, and what a killed run left of one."""
        remove_partial(self.folder)
        for path in (self.record, self.video, self.folder / f"{self.clip.name}.json"):
            path.unlink(missing_ok=True)


def cell_is_made_of(
    cell: Cell,
    config: CompareConfig,
    model: Mapping[str, Any],
    tools: Tools,
    case: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of everything that decides a cell's frames and metrics.

    Args:
        model: `Models.identity` of the variant.
        case: all case settings of the cell.
    """
    densepose_model = config.densepose_model if cell.clip.densepose is None else None
    content = {
        "format": FORMAT,
        "version of mimic": versions()["mimic"],
        "settings": case,
        "model": model,
        "clip": cell.clip.fingerprint(),
        "DensePose model": sha256(local_path(densepose_model)) if densepose_model is not None else None,
        "protocol": config.protocol,
        "metrics": {**tools.facts(), "pose_estimator": estimator_identity(tools.estimator)},
    }
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def write_record(cell: Cell, row: Mapping[str, Any], made_of: Mapping[str, Any]) -> None:
    """Write `cell.json`, with what is needed to notice that it or the video has changed."""
    content = json.loads(json.dumps({**row, "made_of": made_of, "video_sha256": sha256(cell.video)}))
    write_json(cell.record, {**content, "checksum": _checksum(content)})


def finished_row(
    cell: Cell, made_of: Mapping[str, Any], *, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any] | None:
    """The row of a cell that is finished and up to date; otherwise None, and a line that says why.

    A cell that was never made is None without a line.
    """
    try:
        row = json.loads(cell.record.read_text(encoding="utf-8"))
        checksum = row.pop("checksum", None)
        is_whole = checksum == _checksum(row)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        row, checksum, is_whole = {}, None, False
    if row and checksum is None:
        why = "was written by an earlier version"
    elif not row or not is_whole:
        why = "is damaged"
    elif row["made_of"] != made_of:
        before = row["made_of"]
        changed = [name for name in made_of if before.get(name) != made_of[name]]
        why = f"was made with another {', '.join(changed)}"
    elif not cell.video.is_file():
        why = f"has lost its video {cell.video.name}"
    elif sha256(cell.video) != row["video_sha256"]:
        why = f"has another video {cell.video.name} than was measured"
    else:
        return {name: value for name, value in row.items() if name not in ("made_of", "video_sha256")}
    say(f"{cell.title}: {cell.record} {why}; the cell is made again")
    return None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
