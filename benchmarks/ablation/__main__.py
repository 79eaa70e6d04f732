"""Run the ablation, or a part of it: `python -m benchmarks.ablation [--stage NAME ...] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.ablation import dancers, evaluate, fusion, page, train
from benchmarks.ablation.settings import AblationSettings
from mimic.config.loading import build, split_override
from mimic.files import whole_file, write_json

STAGES = ("data", "common", "train", "evaluate", "fusion", "page")


def main(argv: Sequence[str] | None = None) -> None:
    """What has been done already is not done again: delete its file or folder to have it anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES), help="all unless given")
    parser.add_argument(
        "--arms", nargs="+", help="to train or evaluate, for instance a0 d1; all unless given"
    )
    parser.add_argument("--jobs", type=int, default=2, help="arms trained at once, one thread each")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    options = parser.parse_intermixed_args(argv)
    settings = build(
        AblationSettings, dict(split_override(text) for text in options.overrides), "the command line"
    )
    if "data" in options.stage:
        dancers.prepare(settings)
    if "common" in options.stage:
        _train_common(settings, options.overrides)
    if "train" in options.stage:
        _train(settings, options.arms, options.jobs, options.overrides)
    if "evaluate" in options.stage:
        _evaluate(settings, options.arms)
    if "fusion" in options.stage:
        fusion.run(settings)
    if "page" in options.stage:
        print(f"written: {page.write(settings)}")


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _train_common(settings: AblationSettings, overrides: list[str]) -> None:
    """As torchrun would start them: processes that find each other by their environment."""
    num = settings.common_processes
    if num == 1 or "RANK" in os.environ:
        train.train_common(settings)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, "-m", "benchmarks.ablation", *overrides, "--stage", "common"]
    group = os.environ | _ONE_THREAD | meeting | {"WORLD_SIZE": str(num)}
    _wait(
        {f"process {rank}": subprocess.Popen(command, env=group | {"RANK": str(rank)}) for rank in range(num)}
    )


def _train(settings: AblationSettings, arms: list[str] | None, jobs: int, overrides: list[str]) -> None:
    wanted = [(name[0], int(name[1:])) for name in arms] if arms else train.arms_of(settings)
    if jobs == 1 or len(wanted) == 1:
        for arm, seed in wanted:
            train.train_arm(settings, arm, seed)
        return
    command = [sys.executable, "-m", "benchmarks.ablation", *overrides, "--stage", "train", "--arms"]
    for start in range(0, len(wanted), jobs):
        batch = [f"{arm}{seed}" for arm, seed in wanted[start : start + jobs]]
        _wait({name: subprocess.Popen([*command, name], env=os.environ | _ONE_THREAD) for name in batch})


def _wait(running: dict[str, subprocess.Popen[bytes]]) -> None:
    failed = [name for name, process in running.items() if process.wait() != 0]
    if failed:
        sys.exit(f"the training of {', '.join(failed)} failed; see above")


def _evaluate(settings: AblationSettings, arms: list[str] | None) -> None:
    cases = [evaluate.make_case(number, settings) for number in range(settings.num_clips)]
    for arm, seed in train.arms_of(settings):
        path = settings.results / f"{arm}{seed}.json"
        if not path.exists() and (arms is None or f"{arm}{seed}" in arms):
            measured = evaluate.evaluate_arm(settings, arm, seed, cases)
            with whole_file(path) as beside:
                beside.write_text(json.dumps(_rounded(measured), separators=(",", ":")) + "\n")
    if arms is not None:
        return
    content = {
        "kinds": [case.kinds.tolist() for case in cases],
        "limits": [case.limits.tolist() for case in cases],
        "settings": json.loads(settings.model_dump_json()),
    }
    write_json(settings.results / "clips.json", content)
    for arm, strip in evaluate.sheet(settings, settings.seeds[0], cases[:8]).items():
        page.write_picture(settings.results / f"{arm}.png", strip)


def _rounded(content: Any) -> Any:
    """Numbers to five digits: the files are kept with the code."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return None if content is None else float(f"{content:.5g}")


if __name__ == "__main__":
    main()
