"""Whatever is read, whole or damaged, ends in success or in one of our own errors, soon and in little memory.

`pytest -m slow tests/robustness` goes on for `MIMIC_FUZZ_MINUTES` (60), from the seed `MIMIC_FUZZ_SEED`
(random). A failure names seed, sample and change; the damaged sample stays in pytest's folder.

What is read with success has to be sound, which the readers in `parsers` assert; what is said, in errors and
in the log, has to be a clear message (`messages`); samples that are not damaged have to be read.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random

import pytest

from mimic.cli.main import MISTAKE, described
from mimic.data.cache import CacheError
from mimic.training.state import StateError
from tests.robustness.messages import HEARD, fault_of
from tests.robustness.mutations import changed_copy
from tests.robustness.parsers import PARSERS, samples

MAX_CPU_S, MAX_BYTES = 20.0, 1 << 30


def peak_bytes() -> int:
    """The most memory that this process has had; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def problem_of(name: str, sample: Path, *, is_whole: bool = False) -> str | None:
    """Read a sample; what is wrong with how that ended, None if nothing is.

    Args:
        name: of the parser.
        sample: the folder.
        is_whole: it is not damaged, so that it has to end as its parser says.
    """
    begun, peak = time.process_time(), peak_bytes()
    is_refused = is_whole and sample.name in PARSERS[name].refused
    problem, error = None, None
    HEARD.faults.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PARSERS[name].read(sample)
    except Exception as raised:
        error, fault = raised, fault_of(str(raised))
        is_ours = described(raised)[0] == MISTAKE or isinstance(raised, CacheError | StateError)
        if not is_ours or fault is not None or (is_whole and not is_refused):
            problem = f"{fault or ''}\n{''.join(traceback.format_exception(raised)[-6:])[-6000:]}"
    if is_refused and error is None:
        problem = "it was read"
    if problem is None and HEARD.faults:
        problem = HEARD.faults[0]
    seconds, grown = time.process_time() - begun, peak_bytes() - peak
    if seconds > MAX_CPU_S or grown > MAX_BYTES:
        problem = (
            f"{seconds:.0f} s of computing, {grown >> 20} MB of memory more than before\n{problem or ''}"
        )
    return problem


def attempt(name: str, folder: Path, seed: int, whole: list[Path]) -> str | None:
    """Read one damaged sample; the problem with its origin, None if there is none."""
    rng = Random(f"{name} {seed}")
    sample, damaged = rng.choice(whole), folder / f"{seed}"
    change = changed_copy(sample, damaged, rng)
    problem = problem_of(name, damaged)
    if problem is None:
        shutil.rmtree(damaged)
        return None
    return f"{name}, seed {seed}, sample {sample.name}, {change}; kept in {damaged}:\n{problem}"


@pytest.fixture(autouse=True)
def _silent() -> object:
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("mimic", "pose")]
    before = root.level, [(each.level, each.propagate) for each in ours]
    root.setLevel(logging.CRITICAL + 1)
    for each in ours:
        each.addHandler(HEARD)
        each.setLevel(logging.INFO)
        each.propagate = False
    yield
    root.setLevel(before[0])
    for each, (level, propagate) in zip(ours, before[1]):
        each.removeHandler(HEARD)
        each.setLevel(level)
        each.propagate = propagate


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_end_in_success_or_one_of_our_errors(name: str, tmp_path: Path) -> None:
    whole = list(samples(name, _made(tmp_path)))
    problems = [
        problem_of(name, Path(shutil.copytree(sample, tmp_path / "whole" / sample.name)), is_whole=True)
        for sample in whole
    ]
    problems += [attempt(name, tmp_path, seed, whole) for seed in range(PARSERS[name].num)]
    found = [problem for problem in problems if problem is not None]
    assert not found, f"{len(found)} of {len(problems)}:\n\n" + "\n\n".join(found[:5])


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_damaged_files_for_hours(tmp_path: Path) -> None:
    seed = int(os.environ.get("MIMIC_FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
    end = time.monotonic() + 60 * float(os.environ.get("MIMIC_FUZZ_MINUTES", "60"))
    whole = {name: list(samples(name, _made(tmp_path / name))) for name in PARSERS}
    found: list[str] = []
    while time.monotonic() < end:
        for name, parser in PARSERS.items():
            for number in range(seed, seed + max(1, parser.num // 10)):
                problem = attempt(name, tmp_path / name, number, whole[name])
                if problem is not None:
                    print(problem, flush=True)
                    found.append(problem)
        seed += 1000
    assert not found, f"{len(found)} problems; the first:\n\n" + "\n\n".join(found[:5])


def _made(folder: Path) -> Path:
    (folder / "samples").mkdir(parents=True)
    return folder / "samples"
