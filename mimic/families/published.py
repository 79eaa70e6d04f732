"""Publish a pipeline on the Hugging Face hub, with a model card that states licence, settings and metrics."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub

from mimic.families.adapters import LORA_FILE
from mimic.weights.licences import CARD_FILE, OWN_LICENCE, licence_of


def push(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    card: str,
    source: Path | None,
    message: str,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    subfolder: str | None = None,
) -> str:
    """Upload a pipeline with its model card; a card that is in the repository already is kept.

    Args:
        save: writes the pipeline to a folder.
        repo_id: ``owner/name``; made if it does not exist.
        card: text of the model card.
        source: folder that the pipeline was loaded from, whose LoRA file is uploaded as well.
        message: of the commit.
        private, token, create_pr, subfolder: as in diffusers.

    Returns:
        address of the commit.
    """
    repo_id = huggingface_hub.create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder)
        if source is not None and (source / LORA_FILE).is_file():
            shutil.copyfile(source / LORA_FILE, folder / LORA_FILE)
        is_there = subfolder is not None or huggingface_hub.file_exists(repo_id, CARD_FILE, token=token)
        if not is_there:
            (folder / CARD_FILE).write_text(card.replace('"FOLDER"', f'"{repo_id}"'), encoding="utf-8")
        return str(
            huggingface_hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                path_in_repo=subfolder,
                token=token,
                commit_message=message,
                create_pr=create_pr,
            )
        )


def card_of(name: str, source: Path | None, defaults: Mapping[str, Any]) -> str:
    """Return the card that a training wrote beside the weights; for other weights, one with what is known.

    Args:
        name: class of the pipeline.
        source: folder that the pipeline was loaded from; None if it was put together from parts.
        defaults: settings recommended for its weights.
    """
    if source is not None and (source / CARD_FILE).is_file():
        written = (source / CARD_FILE).read_text(encoding="utf-8", errors="replace")
        if written.startswith("---\n"):
            return written
    licence = "that of its weights, which is not known here" if source is None else licence_of(str(source))
    is_own = licence == OWN_LICENCE
    rows = {key: json.dumps(value, ensure_ascii=False) for key, value in defaults.items()}
    table = [f"| `{key}` | {value.replace('|', chr(92) + '|')} |" for key, value in rows.items()]
    settings = ["Settings recommended for these weights:", "", "| | |", "| --- | --- |", *table, ""]
    parts = [
        "---",
        f"license: {'apache-2.0' if is_own else 'other'}",
        *([] if is_own else [f"license_name: {json.dumps(licence, ensure_ascii=False)}"]),
        "library_name: mimic-motion",
        "pipeline_tag: image-to-video",
        "---",
        "",
        f"# {name.removesuffix('Pipeline')}",
        "",
        f"Licence: {licence}.",
        "",
        *(settings if rows else []),
        "Metrics: none are stated with these weights.",
        "",
        "```python",
        "from mimic import load_pipeline",
        "",
        'pipe = load_pipeline("FOLDER")',
        "```",
        "",
    ]
    return "\n".join(parts)
