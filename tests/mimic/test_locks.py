"""One process at a time writes to a folder, and whoever comes second is told who that is."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from mimic.locks import LOCK_FILE, FolderInUseError, locked_folder

HOLD = """
import sys, time
from mimic.locks import locked_folder
with locked_folder(sys.argv[1], work="training", say=print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout.readline() == "held\n"
        yield held
        held.kill()


def never(line):
    raise AssertionError(line)


def test_the_second_is_told_who_holds_it_and_the_lock_of_a_dead_process_does_not_block(tmp_path, holder):
    told = rf"{tmp_path.name} is in use by training of process {holder.pid} on .+, since 20\d\d-.*give"
    for _ in range(2):  # being refused does not loosen it
        with pytest.raises(FolderInUseError, match=told), locked_folder(tmp_path, work="other", say=never):
            pass
    os.kill(holder.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists(), "what a killed process leaves"
    with locked_folder(tmp_path, work="other", say=never):
        assert f'"pid": {os.getpid()}' in (tmp_path / LOCK_FILE).read_text()
    assert not list(tmp_path.iterdir()), "no file stays behind"


def test_one_process_does_not_hold_a_folder_twice_and_gives_it_back_after_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="broken"), locked_folder(tmp_path, work="first", say=never):
        with (
            pytest.raises(FolderInUseError, match=f"first of process {os.getpid()} "),
            locked_folder(tmp_path / "." / "", work="second", say=never),
        ):
            pass
        raise RuntimeError("broken")
    with locked_folder(tmp_path, work="third", say=never):
        pass


@pytest.mark.skipif(os.name == "nt", reason="fcntl is POSIX")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_the_work_is_done(tmp_path, monkeypatch, code):
    import fcntl

    def lockf(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    said, is_done = [], False
    with locked_folder(tmp_path, work="training", say=said.append):
        is_done = True
    assert is_done
    assert len(said) == 1
    assert "has no locks" in said[0]
    assert not list(tmp_path.iterdir())
