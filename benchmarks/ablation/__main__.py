"""Run the ablation, or a part of it: `python -m benchmarks.ablation [--stage NAME ...] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.ablation import dancers, evaluate, fusion, page, train
from benchmarks.ablation.settings import AblationSettings
from mimic.config.loading import build, split_override
from mimic.data.processes import start_method
from mimic.files import whole_file, write_json

STAGES = ("data", "train", "evaluate", "fusion", "page")


def main(argv: Sequence[str] | None = None) -> None:
    """What has been done already is not done again: delete its file or folder to have it anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES), help="all unless given")
    parser.add_argument(
        "--arms", nargs="+", help="to train or evaluate, for instance a0 d1; all unless given"
    )
    parser.add_argument("--jobs", type=int, default=2, help="arms at once, one thread each")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    options = parser.parse_intermixed_args(argv)
    settings = build(
        AblationSettings, dict(split_override(text) for text in options.overrides), "the command line"
    )
    if "data" in options.stage:
        dancers.prepare(settings)
    named = [(name[0], int(name[1:])) for name in options.arms or ()]
    arms = named or train.arms_of(settings)
    if "train" in options.stage:
        _train(settings, arms, options.jobs)
    if "evaluate" in options.stage:
        _evaluate(settings, arms, options.jobs)
    if "fusion" in options.stage:
        fusion.run(settings)
    if "page" in options.stage:
        print(f"written: {page.write(settings)}")


def _train(settings: AblationSettings, arms: list[tuple[str, int]], jobs: int) -> None:
    _in_processes(train.train_arm, [(settings, *arm) for arm in arms], jobs)


def _evaluate(settings: AblationSettings, arms: list[tuple[str, int]], jobs: int) -> None:
    cases = [evaluate.make_case(number, settings) for number in range(settings.num_clips)]
    _in_processes(_evaluate_arm, [(settings, *arm, cases) for arm in arms], jobs)
    content = {
        "kinds": [case.kinds.tolist() for case in cases],
        "limits": [case.limits.tolist() for case in cases],
        "settings": json.loads(settings.model_dump_json()),
    }
    write_json(settings.results / "clips.json", _rounded(content))
    if len(arms) == len(train.arms_of(settings)):
        for name, strip in evaluate.sheet(settings, settings.seeds[0], cases[:8]).items():
            page.write_picture(settings.results / f"{name}.png", strip)


def _evaluate_arm(settings: AblationSettings, arm: str, seed: int, cases: list[evaluate.Case]) -> None:
    path = settings.results / f"{arm}{seed}.json"
    if path.exists():
        return
    measured = evaluate.evaluate_arm(settings, arm, seed, cases)
    with whole_file(path) as beside:
        beside.write_text(json.dumps(_rounded(measured), separators=(",", ":")) + "\n")


def _in_processes(function: Callable[..., object], arguments: list[tuple[Any, ...]], jobs: int) -> None:
    """Calls in processes of one thread each; forked on Linux, so that all is imported once."""
    torch.set_num_threads(1)
    if jobs == 1:
        for given in arguments:
            function(*given)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else start_method())
    for start in range(0, len(arguments), jobs):
        running = [context.Process(target=function, args=given) for given in arguments[start : start + jobs]]
        for process in running:
            process.start()
        for process in running:
            process.join()
        if any(process.exitcode for process in running):
            sys.exit("a process failed; see above")


def _rounded(content: Any) -> Any:
    """Numbers to five digits: the files are kept with the code."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return content if content is None or isinstance(content, (int, str)) else float(f"{content:.5g}")


if __name__ == "__main__":
    main()
