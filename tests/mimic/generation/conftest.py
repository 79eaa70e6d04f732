"""The small world, made once."""

from pathlib import Path
from typing import Any

import pytest

from mimic.families.registry import load_pipeline
from pose import load_estimator
from pose.estimators import Estimator
from tests.dancers import Stage, make_stage
from tests.tiny import quiet


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return make_stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="session")
def pipeline(stage: Stage) -> Any:
    return quiet(load_pipeline(stage.model, device="cpu"))


@pytest.fixture(scope="session")
def estimator() -> Estimator:
    return load_estimator("blazepose")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "result.mp4"
