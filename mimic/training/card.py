"""What is said about trained weights: facts in the weight files, and a model card (README.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mimic.families.task import TrainingTask
from mimic.provenance import versions
from mimic.training.report import shown_steps
from mimic.training.settings import TrainSettings
from mimic.weights.licences import OWN_LICENCE, licence_of


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


def model_card(
    facts: Mapping[str, str],
    settings: TrainSettings,
    *,
    best: Mapping[str, Any] | None = None,
    validated: Mapping[int, Mapping[str, float]] | None = None,
) -> str:
    """Return the model card of a finished training, Markdown with the front matter of the Hugging Face hub.

    Args:
        facts: of `facts_of`.
        settings: of the training.
        best: step and value of the best validation; None or empty without one.
        validated: metrics of each validated step up to the exported one.
    """
    is_own = facts["licence"] == OWN_LICENCE
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
    metrics = [] if not validated else ["", "Metrics of validation:", "", *_metrics(validated, best or {})]
    use = ["from mimic import load_pipeline", "", 'pipe = load_pipeline("FOLDER")  # this folder']
    parts = [
        "---", *front, "---", "",
        f"# {settings.family}, fine-tuned", "",
        "Weights trained with `mimic train`. They are bound by the licence of their base and by the rights "
        "to the videos that they were trained on.", "",
        "| | |", "| --- | --- |", *table, *metrics, "", "```python", *use, "```", "",
    ]  # fmt: skip
    if settings.lora is not None:
        parts += [
            "The weights in this folder have the LoRA merged; `lora.safetensors` is the LoRA alone:",
            "", "```python", f'pipe = load_pipeline("{settings.model}")',
            'pipe.load_lora_weights("FOLDER", adapter_name="mine")',
            'pipe.set_adapters("mine", 0.8)', "pipe.unload_lora_weights()", "```", "",
        ]  # fmt: skip
    return "\n".join(parts)


def _metrics(validated: Mapping[int, Mapping[str, float]], best: Mapping[str, Any]) -> list[str]:
    """Return a table of the first, the best and the last validation."""
    shown = shown_steps(validated, int(best["step"]) if best else None)
    head = " | ".join(f"step {step} ({name})" for step, name in shown.items())
    names = dict.fromkeys(name for step in shown for name in validated[step])
    rows = []
    for name in names:
        values = (validated[step].get(name) for step in shown)
        cells = " | ".join("" if value is None else f"{value:.4g}" for value in values)
        rows.append(f"| {name} | {cells} |")
    return [f"| metric | {head} |", f"| --- |{' --- |' * len(shown)}", *rows]
