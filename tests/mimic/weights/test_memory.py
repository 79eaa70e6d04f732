"""Loading needs memory for the weights in their final precision and one file."""

import re
import sys
from pathlib import Path

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from mimic.weights.parts import load_part

MB = 2**20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Wide(ModelMixin, ConfigMixin):
    """Layers of 4 MB each in float32."""

    @register_to_config
    def __init__(self, num_layers: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024, bias=False) for _ in range(num_layers))


def memory_mb(name):
    """Memory of this process in MB, mapped files included: ``VmRSS`` now, ``VmHWM`` at its highest."""
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory is reset by a file of Linux alone")
def test_memory_peaks_at_the_weights_in_their_precision_and_one_file(tmp_path):
    Wide().save_pretrained(tmp_path, max_shard_size=8 * MB)
    sizes = [file.stat().st_size / MB for file in tmp_path.glob("*.safetensors")]
    assert len(sizes) == 6
    assert max(sizes) < 9
    load_part(Wide, tmp_path, dtype=torch.bfloat16)  # what the libraries keep for themselves
    try:
        RESET.write_text("5")
    except OSError:
        pytest.skip("the highest memory cannot be reset here")
    before = memory_mb("VmRSS")
    loaded = load_part(Wide, tmp_path, dtype=torch.bfloat16)
    final = sum(weight.nbytes for weight in loaded.parameters()) / MB
    assert final == 24
    assert memory_mb("VmHWM") - before < final + max(sizes) + 8  # with room for fragments; all files have 48
