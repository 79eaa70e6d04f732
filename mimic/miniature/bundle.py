"""Write a trained miniature as a model folder that loads like any other."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mimic.families.base import AnimationPipeline
from mimic.files import write_json


def save_bundle(pipeline: AnimationPipeline, folder: Path) -> int:
    """Write the pipeline in half precision and return the size of its weights in bytes."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in (folder / "model_index.json", *folder.rglob("config.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # a path of the machine that wrote it
            write_json(file, config)
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
