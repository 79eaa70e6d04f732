"""Worker processes are few enough, start on every system, and end when their parent ends."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mimic.data.processes import ProcessCountError, check_num_processes, most_processes, start_method

ROOT = Path(__file__).parents[3]
PARENT = """
import multiprocessing, sys, time
from mimic.data.processes import end_with_parent, start_method

def work(started):
    end_with_parent()
    started.set()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1] if len(sys.argv) > 1 else start_method())
    events = [context.Event() for _ in range(2)]
    for started in events:
        context.Process(target=work, args=(started,)).start()
    for started in events:
        started.wait()
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_workers_end_when_their_parent_is_killed(method, name, tmp_path):
    if method not in multiprocessing.get_all_start_methods() or not hasattr(signal, name):
        pytest.skip("this system has no such thing")
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    # Workers inherit the pipe: it ends only when the last of them has ended.
    process = subprocess.Popen(
        [sys.executable, str(script), method],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline().strip() == b"ready"
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=20)[0] == b""


def test_the_start_method_exists_on_this_system_and_is_never_fork(monkeypatch):
    assert start_method() in multiprocessing.get_all_start_methods()
    assert start_method() != "fork"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert start_method() == "spawn"


@pytest.mark.parametrize("count", [-1, 1000, 10**9, True, 2.5, "4"])
def test_a_number_of_processes_that_no_machine_carries_is_refused(count, monkeypatch):
    monkeypatch.setattr("mimic.data.processes.available_cores", lambda: 4)
    with pytest.raises(ProcessCountError, match=r"num_workers is .*; expected a whole number from 0 to 32"):
        check_num_processes(count, "num_workers")


def test_windows_is_never_asked_for_more_processes_than_it_can_wait_for(monkeypatch):
    monkeypatch.setattr("mimic.data.processes.available_cores", lambda: 128)
    monkeypatch.setattr(sys, "platform", "linux")
    assert most_processes() == 512
    check_num_processes(64, "num_workers")
    monkeypatch.setattr(sys, "platform", "win32")
    assert most_processes() == 61
    with pytest.raises(ProcessCountError, match="from 0 to 61"):
        check_num_processes(62, "num_workers")


def test_the_start_method_is_chosen_in_one_place():
    named = re.compile(r"""get_context\(["']|set_start_method|multiprocessing_context=["']""")
    sources = [path for folder in ("mimic", "pose") for path in (ROOT / folder).rglob("*.py")]
    assert not [path for path in sources if named.search(path.read_text(encoding="utf-8"))]
