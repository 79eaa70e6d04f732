"""What is said about trained weights: facts in the weight files, and a model card (README.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mimic.families.task import TrainingTask
from mimic.files import local_path
from mimic.provenance import versions
from mimic.training.settings import TrainSettings
from mimic.weights.download import RELEASES

CARD_FILE = "README.md"
_OWN_LICENCE = "Apache-2.0"
_FIELD = re.compile(r"^(license|license_name):\s*(.+?)\s*$", re.MULTILINE)


def facts_of(settings: TrainSettings, task: TrainingTask, step: int) -> dict[str, str]:
    """Return the facts about trained weights that their files carry, all as text.

    Args:
        settings: of the training.
        task: whose weights they are.
        step: steps made.
    """
    base = settings.model if settings.checkpoint is None else f"{settings.model} and {settings.checkpoint}"
    window = task.pipeline().generation_defaults.get("tile_size")
    facts = {
        "base": base,
        "family": settings.family,
        "licence": licence_of(settings.model, settings.checkpoint),
        "steps": str(step),
        "version": f"mimic {versions()['mimic']}",
        "window": "1" if window is None else str(window),
    }
    if settings.lora is not None:
        alpha = settings.lora.rank if settings.lora.alpha is None else settings.lora.alpha
        facts |= {"rank": str(settings.lora.rank), "alpha": f"{alpha:g}"}
    return facts


def licence_of(model: str, checkpoint: str | None = None) -> str:
    """Describe the licence of a training's base: of a known release, of a bundled model, or as its model card
    says."""
    found = []
    for release in RELEASES.values():
        if model.removeprefix("hf:") == release.base:
            found.append(f"{release.base}: {release.base_licence}")
        names = [name for file in release.files for name in (file.repository, file.name)]
        if checkpoint is not None and any(name in checkpoint for name in names):
            found.append(f"{release.files[0].repository}: {release.licence}")
    if not found and (model == "tiny" or model.startswith("bundled:")):
        found.append(_OWN_LICENCE)
    card = local_path(model) / CARD_FILE
    if not found and card.is_file():
        fields = dict(_FIELD.findall(card.read_text(encoding="utf-8", errors="replace")))
        found += [text.strip("\"'") for text in (fields.get("license_name", fields.get("license")),) if text]
    return "; ".join(found) or f"that of {model}, which states none"


def model_card(
    facts: Mapping[str, str], settings: TrainSettings, *, best: Mapping[str, Any] | None = None
) -> str:
    """Return the model card of a finished training, Markdown with the front matter of the Hugging Face hub.

    Args:
        facts: of `facts_of`.
        settings: of the training.
        best: step and value of the best validation; None or empty without one.
    """
    is_own = facts["licence"] == _OWN_LICENCE
    front = [
        f"license: {'apache-2.0' if is_own else 'other'}",
        *([] if is_own else [f"license_name: {json.dumps(facts['licence'], ensure_ascii=False)}"]),
        "library_name: mimic-motion",
        "pipeline_tag: image-to-video",
        *([f"base_model: {settings.model}"] if re.fullmatch(r"[\w.-]+/[\w.-]+", settings.model) else []),
        f"tags: [{settings.family}{', lora' if settings.lora is not None else ''}]",
    ]
    data, objective = settings.data, dict(settings.objective)
    rows = {
        "family": settings.family,
        "base": facts["base"],
        "licence of the base": facts["licence"],
        "steps": f"{facts['steps']}, {settings.batch_size} clips each",
        "window": f"{facts['window']} frames",
        "size": ", ".join(f"{height}x{width}" for height, width in data.all_sizes) + " (height x width)",
        "data": "synthetic dancers" if data.source == "synthetic" else "prepared videos",
        "trained": ", ".join(settings.trainable) or ("LoRA" if settings.lora is not None else "everything"),
    }
    if settings.lora is not None:
        targets = ", ".join(settings.lora.targets)
        rows["LoRA"] = f"rank {facts['rank']}, alpha {facts['alpha']}, targets {targets}"
    rows |= {
        "optimiser": f"{settings.optimiser.name}, learning rate {settings.optimiser.learning_rate:g}",
        "precision": settings.precision,
        "objective": json.dumps(objective) if objective else "the family's defaults",
        "seed": str(settings.seed),
        "made by": facts["version"],
    }
    if best:
        rows["best validation"] = (
            f"{settings.validation.best_by} {best['value']:.4g} at step {best['step']:g}"
        )
    table = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows.items()]
    use = ["from mimic import load_pipeline", "", 'pipe = load_pipeline("FOLDER")  # this folder']
    parts = [
        "---", *front, "---", "",
        f"# {settings.family}, fine-tuned", "",
        "Weights trained with `mimic train`. They are bound by the licence of their base and by the rights "
        "to the videos that they were trained on.", "",
        "| | |", "| --- | --- |", *table, "", "```python", *use, "```", "",
    ]  # fmt: skip
    if settings.lora is not None:
        parts += [
            "The weights in this folder have the LoRA merged; `lora.safetensors` is the LoRA alone:",
            "", "```python", f'pipe = load_pipeline("{settings.model}")',
            'pipe.load_lora_weights("FOLDER", adapter_name="mine")',
            'pipe.set_adapters("mine", 0.8)', "pipe.unload_lora_weights()", "```", "",
        ]  # fmt: skip
    return "\n".join(parts)
