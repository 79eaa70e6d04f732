"""Names to estimators, and what `auto` takes."""

import logging
import shutil

import pytest

from pose import load_estimator
from pose.dwpose import EstimatorWeightsError
from pose.types import PoseError
from tests.pose.released_onnx import DETECTOR, POSE


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """A home without DWPose files."""
    monkeypatch.delenv("MIMIC_DWPOSE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def weights(no_weights):
    """A folder with files of the original names."""
    folder = no_weights / "dwpose"
    folder.mkdir()
    shutil.copy(DETECTOR, folder / "yolox_l.onnx")
    shutil.copy(POSE, folder / "dw-ll_ucoco_384.onnx")
    return folder


def test_an_unknown_name_is_told_the_choices():
    with pytest.raises(PoseError, match=r"'openpose'; choose one of auto, dwpose, blazepose"):
        load_estimator("openpose")


def test_auto_takes_the_bundled_one_where_there_are_no_weights_and_says_so_once(no_weights, caplog):
    with caplog.at_level(logging.INFO, logger="pose"):
        assert load_estimator(num_threads=1).name == "blazepose"
    (record,) = caplog.records
    assert record.getMessage().startswith("pose estimator: blazepose")
    assert "mimic download dwpose" in record.getMessage()


def test_auto_takes_dwpose_where_its_weights_are(weights, monkeypatch, caplog):
    monkeypatch.setenv("MIMIC_DWPOSE", str(weights))
    with caplog.at_level(logging.INFO, logger="pose"):
        assert load_estimator("auto", device="cpu", num_threads=1).name == "dwpose"
    (record,) = caplog.records
    assert record.getMessage().startswith("pose estimator: dwpose")
    assert load_estimator("auto", weights=weights, device="cpu", num_threads=1).name == "dwpose"


def test_a_name_is_taken_without_a_word(weights, caplog):
    with caplog.at_level(logging.INFO, logger="pose"):
        assert load_estimator("dwpose", weights=weights, device="cpu", num_threads=1).name == "dwpose"
        assert load_estimator("blazepose", num_threads=1).name == "blazepose"
    assert caplog.records == []


def test_dwpose_without_weights_is_an_error(no_weights):
    with pytest.raises(EstimatorWeightsError, match="mimic download dwpose"):
        load_estimator("dwpose")


@pytest.mark.parametrize("named_by", ["argument", "variable"])
def test_auto_does_not_ignore_a_folder_that_was_named(no_weights, monkeypatch, named_by):
    if named_by == "variable":
        monkeypatch.setenv("MIMIC_DWPOSE", str(no_weights / "typo"))
    with pytest.raises(EstimatorWeightsError, match="typo"):
        load_estimator("auto", weights=no_weights / "typo" if named_by == "argument" else None)


def test_the_old_name_of_the_weights_error_still_imports_for_now():
    with pytest.warns(FutureWarning, match="EstimatorWeightsError"):
        from pose.dwpose import WeightsError
    assert WeightsError is EstimatorWeightsError
