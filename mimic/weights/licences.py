"""Which licence weights are bound by, as far as it is stated, and the model card that states it."""

from __future__ import annotations

import re

from mimic.files import ASSETS, local_path
from mimic.weights.download import RELEASES
from mimic.weights.sources import hub_id_of

CARD_FILE = "README.md"
OWN_LICENCE = "Apache-2.0"
_FIELD = re.compile(r"^(license|license_name):\s*(.+?)\s*$", re.MULTILINE)


def licence_of(model: str, checkpoint: str | None = None) -> str:
    """Describe the licence of weights: of a known release, of a bundled model, or as their model card says.

    Args:
        model: a folder, a hub id or ``bundled:name``.
        checkpoint: a file or hub name whose weights take the place of some of them.
    """
    folder = local_path(model)
    name = hub_id_of(folder) or model.removeprefix("hf:")
    found = []
    for release in RELEASES.values():
        if name == release.base:
            found.append(f"{release.base}: {release.base_licence}")
        names = [name for file in release.files for name in (file.repository, file.name)]
        if checkpoint is not None and any(name in checkpoint for name in names):
            found.append(f"{release.files[0].repository}: {release.licence}")
    if not found and (model == "tiny" or folder.absolute().is_relative_to(ASSETS)):
        found.append(OWN_LICENCE)
    card = folder / CARD_FILE
    if not found and card.is_file():
        fields = dict(_FIELD.findall(card.read_text(encoding="utf-8", errors="replace")))
        found += [text.strip("\"'") for text in (fields.get("license_name", fields.get("license")),) if text]
    return "; ".join(found) or f"that of {model}, which states none"
