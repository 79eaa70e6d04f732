"""Do diffusers' own testers pass on our pipelines and on the UNet that takes poses?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = os.environ.get("MIMIC_DIFFUSERS_CHECKOUT")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(CHECKOUT is None, reason="MIMIC_DIFFUSERS_CHECKOUT names no checkout of diffusers")
def test_diffusers_own_testers_pass(tmp_path):
    """Some minutes. Needs what diffusers' tests import besides: parameterized, requests_mock."""
    shutil.copytree(Path(CHECKOUT) / "tests", tmp_path / "tests")
    shutil.copy(Path(__file__).with_name("pipelines_and_models.py"), tmp_path / "test_ours.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = [str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "test_ours.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
    print(done.stdout.splitlines()[-1])
