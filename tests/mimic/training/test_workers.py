"""Processes that load data: their errors read as without them, and none outlives its training."""

import os
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader

from mimic.data.processes import start_method
from mimic.locks import FolderInUseError, locked_folder
from mimic.training.engine import make_accelerator
from mimic.training.loop import train
from mimic.training.setup import set_up
from mimic.training.workers import HandingOver, samples_or_raise, set_up_worker
from mimic.video import VideoError
from tests.mimic.training.small import Said, quick_settings

SENTENCE = "videos/dance.mp4 cannot be read: no video stream; give another file"


class OddError(Exception):
    """Cannot be sent to another process: it is made of two things, and remembers one."""

    def __init__(self, name, number):
        super().__init__(f"{name} {number}")


class Unreadable:
    """A dataset whose clips cannot be read."""

    def __getitem__(self, number):
        raise VideoError(SENTENCE) if number == 0 else OddError("clip", number)


@pytest.mark.slow
def test_a_clip_that_a_worker_cannot_read_is_the_same_sentence_as_without_workers():
    loader = DataLoader(
        HandingOver(Unreadable()), sampler=[0, 1], batch_size=1, collate_fn=list, num_workers=1,
        worker_init_fn=set_up_worker, multiprocessing_context=start_method(),
    )  # fmt: skip
    batches = iter(loader)
    for kind, told in ((VideoError, SENTENCE), (RuntimeError, "OddError: clip 1")):
        with pytest.raises(kind) as caught:
            next(samples_or_raise(batches))
        assert str(caught.value) == told
        assert "in __getitem__" in str(caught.value.__cause__), "where it happened is not lost"


LOADING = """
import os, sys, time
from torch.utils.data import DataLoader
from mimic.data.processes import start_method
from mimic.training.workers import set_up_worker

class Numbers:
    def __len__(self):
        return 1000
    def __getitem__(self, number):
        return os.getpid()

if __name__ == "__main__":
    numbers = iter(DataLoader(Numbers(), num_workers=1, batch_size=None,
                              worker_init_fn=set_up_worker, multiprocessing_context=start_method()))
    print(next(numbers), flush=True)
    time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_workers_end_when_their_training_is_killed(tmp_path, name):
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        assert is_running(worker)
        process.send_signal(signal.Signals[name])
        process.wait()
    end = time.monotonic() + 60  # at once, but machines may be busy
    while is_running(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(worker)


def test_a_second_training_in_one_folder_is_refused_and_what_a_killed_one_left_is_removed(tmp_path):
    for left in (".final.1.partial", "validation/.step-000001.1.partial.mp4"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_text("half")
    with locked_folder(tmp_path, work="a training", say=print):
        with pytest.raises(FolderInUseError, match=f"by a training of process {os.getpid()} on .*since"):
            train(quick_settings(tmp_path, max_steps=1), say=Said())
        assert (tmp_path / ".final.1.partial").exists(), "the one that holds the folder may be writing it"
        train(quick_settings(tmp_path, max_steps=1), say=Said(), is_dry_run=True)
    train(quick_settings(tmp_path, max_steps=1), say=Said())
    assert not list(tmp_path.rglob("*.partial*"))
    assert not list(tmp_path.glob(".*"))


def test_a_trainings_loader_has_workers_that_end_with_it(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "mimic.training.run.DataLoader", lambda dataset, **options: given.update(options) or []
    )
    settings = quick_settings(tmp_path, num_workers=1)
    set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True).batches()
    assert given["worker_init_fn"] is set_up_worker
    assert given["multiprocessing_context"] == start_method()
