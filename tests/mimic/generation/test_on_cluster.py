"""Cases made by the workers of a Ray cluster equal those of one process, also when a worker dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from mimic.cluster import Cluster
from mimic.config import load_inference_config
from mimic.generation import run_config
from mimic.video import write_image
from tests.cluster import OneKill
from tests.dancers import Stage
from tests.mimic.generation.test_killed import write_config


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cases_made_by_workers_are_those_of_one_process(
    cluster: Cluster, stage: Stage, tmp_path: Path
) -> None:
    path = write_config(tmp_path, "mimicmotion", stage, stage.driving)
    content = yaml.safe_load(path.read_text())
    (case,) = content["test_case"]
    nobody = str(write_image(tmp_path / "grey.png", np.full((256, 256, 3), 120, np.uint8)))
    content["test_case"] = [case | {"name": name, "seed": seed} for seed, name in enumerate("abc")]
    content["test_case"].append(case | {"name": "odd", "ref_image_path": nobody})
    path.write_text(yaml.safe_dump(content))
    config = load_inference_config(path)
    good = config.model_copy(update={"test_case": config.test_case[:3]})
    run_config(good, output_dir=tmp_path / "here", is_progress_shown=False)
    said: list[str] = []
    out = tmp_path / "there"
    with OneKill(lambda: any(out.glob("*.unfinished/*"))) as kill:
        made = run_config(
            config, output_dir=out, is_progress_shown=False, say=said.append, runner="ray", num_workers=2
        )
    assert kill.killed is not None
    assert [failure.name for failure in made.failures] == ["odd"]
    assert [result.path.name for result in made.results] == ["a.mp4", "b.mp4", "c.mp4"]
    for name in "abc":
        assert (out / f"{name}.mp4").read_bytes() == (tmp_path / "here" / f"{name}.mp4").read_bytes()
    assert sum(line.startswith("model: ") for line in said) == 1
    again = run_config(good, output_dir=out, is_progress_shown=False, runner="ray", num_workers=2)
    assert all(result.is_kept for result in again.results)
