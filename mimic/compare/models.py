"""The pipelines of a comparison's variants, one in memory at a time, and what identifies each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.compare.settings import CompareConfig, VariantSettings
from mimic.devices import chosen_device
from mimic.families.base import AnimationPipeline
from mimic.families.registry import find_sources, load_pipeline
from mimic.provenance import described_model, weights_of
from mimic.weights.sources import resolve, sha256

_Key = tuple[str, str | None, str | None]


class Models:
    """The pipeline of each variant that has a model: ``models(variant)``. Variants of one model share it.

    Raises:
        SourceError, WeightsError: a model is missing or its weights do not fit; all are loaded once here.
    """

    def __init__(self, config: CompareConfig, device: str) -> None:
        self.device = chosen_device(device)
        self._dtype = config.dtype if config.dtype != "auto" else None
        self._held: tuple[_Key, AnimationPipeline[Any, Any]] | None = None
        self._facts: dict[_Key, dict[str, Any]] = {}
        self._files: dict[_Key, dict[str, str]] = {}
        self._sizes: dict[_Key, tuple[int, int] | None] = {}
        self._driven_by: dict[_Key, str] = {}
        for variant in config.variants:
            if variant.model is not None and _key(variant) not in self._facts:
                self._describe(variant)

    def __call__(self, variant: VariantSettings) -> AnimationPipeline[Any, Any]:
        key = _key(variant)
        if self._held is None or self._held[0] != key:
            assert variant.model is not None
            self._held = None  # frees the previous model before the next one is loaded
            pipe = load_pipeline(
                variant.model,
                checkpoint=variant.checkpoint,
                vae=variant.vae,
                dtype=self._dtype,
                device=self.device,
            )
            self._held = key, pipe
        return self._held[1]

    def facts(self, variant: VariantSettings) -> dict[str, Any]:
        """`mimic.provenance.described_model` of the variant."""
        return self._facts[_key(variant)]

    def identity(self, variant: VariantSettings) -> dict[str, Any]:
        """What decides the frames beside the settings: pipeline, files, precision, kind of device."""
        facts = self.facts(variant)
        return {
            "pipeline": facts["pipeline"],
            "weights": facts["weights_sha256"],
            "configs": self._files[_key(variant)],
            "dtype": facts["dtype"],
            "device": self.device.type,
        }

    def size(self, variant: VariantSettings) -> tuple[int, int] | None:
        """Default height and width, where the model has both."""
        return self._sizes[_key(variant)]

    def driven_by(self, variant: VariantSettings) -> str:
        """`driven_by` of the pipeline."""
        return self._driven_by[_key(variant)]

    def _describe(self, variant: VariantSettings) -> None:
        key, pipe = _key(variant), self(variant)
        assert variant.model is not None
        base, checkpoint = find_sources(variant.model, variant.checkpoint)
        vae = resolve(variant.vae) if variant.vae is not None else None
        self._facts[key] = described_model(pipe, base=base, checkpoint=checkpoint, name=variant.model)
        if vae is not None:
            hashes = {f"vae: {name}": digest for name, digest in weights_of(vae, None).items()}
            self._facts[key]["weights_sha256"] |= hashes
        self._files[key] = {
            f"{number}: {name}": digest
            for number, folder in enumerate((base, checkpoint, vae))
            if folder is not None and folder.is_dir()
            for name, digest in _configs(folder).items()
        }
        height, width = (pipe.generation_defaults.get(side) for side in ("height", "width"))
        self._sizes[key] = None if height is None or width is None else (height, width)
        self._driven_by[key] = pipe.driven_by


def _configs(folder: Path) -> dict[str, str]:
    """Hashes of the JSON files of a model folder: networks, scheduler, generation defaults."""
    files = sorted(path for pattern in ("*.json", "*/*.json") for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _key(variant: VariantSettings) -> _Key:
    assert variant.model is not None
    return variant.model, variant.checkpoint, variant.vae
