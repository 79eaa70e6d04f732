"""Write a trained miniature as a model folder that loads like any other, and packs small.

Weights are of half precision. Of its 10 bits behind the binary point only 6 are used; the others are zero,
which a wheel and git compress. `benchmarks/mini_quality.py` tells what that costs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from mimic.families.base import AnimationPipeline
from mimic.files import write_json

BITS = 6
_BITS_OF_HALF = 10


def save_bundle(pipeline: AnimationPipeline, folder: Path) -> int:
    """Write the pipeline in half precision and return the size of its weights in bytes."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.half()
            with torch.no_grad():
                for value in part.state_dict().values():
                    if value.dtype == torch.float16:
                        value.copy_(rounded(value))
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in (folder / "model_index.json", *folder.rglob("config.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # a path of the machine that wrote it
            write_json(file, config)
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def rounded(values: Tensor, bits: int = BITS) -> Tensor:
    """Round float16 values to the nearest with `bits` bits behind the binary point, half away from zero.

    The relative error is 2 ** -(bits + 1) at most.
    """
    step = 1 << (_BITS_OF_HALF - bits)
    # Sign and magnitude: what is added to the pattern grows the magnitude, over the exponent's border too.
    pattern = values.view(torch.int16).int() + step // 2
    return (pattern & -step).short().view(torch.float16)
