"""One thread a test: the models are so small that more threads only wait for each other."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

from mimic.cluster import Cluster, connected_cluster

hypothesis.settings.register_profile("mimic", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("mimic")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _own_pose_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_POSE_CACHE", str(tmp_path_factory.mktemp("poses")))
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with connected_cluster(2) as connected:
            yield connected
