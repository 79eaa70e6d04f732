"""How many small changes of the arithmetic core does the suite notice? Mutation testing of a seeded sample.

    pip install mutmut==3.8.1
    python -m benchmarks.mutants [--num 400] [--seed 0]

mutmut makes the changes (mutants) of the modules named in `pyproject.toml`, and runs for each of them the
tests that reach it. Finished mutants are kept in `mutants/`, so that an interrupted run goes on where it was;
a mutant of changed code, and with `--again` every survivor, is run again. The result is
`benchmarks/results/mutants.json`; reasons written there for survivors are kept. mutmut needs `os.fork`:
Linux, macOS or WSL.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "mutants.json"
MADE = Path("mutants")
SURVIVED, UNTESTED = (0,), (5, 33)  # mutmut's exit codes; negative ones and 36 are time limits and crashes


def main() -> int:
    """Run the sample and write its result; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num", type=int, default=400, help="size of the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="also run again what has survived before")
    options = parser.parse_args()
    if not any(MADE.rglob("*.meta")):
        _mutmut("mimic.video.stride.*")  # makes the mutants of all modules, and times the tests
    codes = _exit_codes()
    sample = random.Random(options.seed).sample(sorted(codes), min(options.num, len(codes)))
    is_open = (None, *SURVIVED, *UNTESTED) if options.again else (None,)
    wanted = [name for name in sample if codes[name] in is_open]
    if wanted:
        _mutmut(*wanted)
        codes = _exit_codes()
    if num_open := sum(codes[name] is None for name in sample):
        sys.exit(f"{num_open} of {len(sample)} mutants have not run; the same command goes on with them")
    result = _result({name: codes[name] for name in sample}, options.seed, len(codes))
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{result['killed']} of {result['sample']} killed ({result['score']:.1%})")
    for module, (killed, num) in result["by_module"].items():
        print(f"  {module}: {killed} of {num}")
    for survivor in result["survivors"]:
        print(f"\n{survivor['mutant']}: {survivor['reason'] or 'no reason given yet'}\n{survivor['change']}")
    return 0


def _mutmut(*names: str) -> None:
    subprocess.run(
        [Path(sys.executable).with_name("mutmut"), "run", "--max-children", "1", *names], check=True
    )


def _exit_codes() -> dict[str, int | None]:
    """The result of each mutant by its name; None if it has not run."""
    codes: dict[str, int | None] = {}
    for path in sorted(MADE.rglob("*.meta")):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def _result(codes: dict[str, int | None], seed: int, num_all: int) -> dict[str, Any]:
    former = json.loads(RESULT.read_text(encoding="utf-8"))["survivors"] if RESULT.is_file() else []
    reasons = {(entry["mutant"].rpartition("__")[0], entry["change"]): entry["reason"] for entry in former}
    alive = sorted(name for name, code in codes.items() if code in (*SURVIVED, *UNTESTED))
    survivors = []
    for name in alive:
        change = _change(name)
        reason = reasons.get((name.rpartition("__")[0], change), "")
        survivors.append({"mutant": name, "change": change, "reason": reason})
    num = Counter(name.rpartition(".")[0] for name in codes)
    lost = Counter(name.rpartition(".")[0] for name in alive)
    return {
        "seed": seed,
        "mutants": num_all,
        "sample": len(codes),
        "killed": len(codes) - len(alive),
        "score": 1 - len(alive) / len(codes),
        "by_module": {module: [num[module] - lost[module], num[module]] for module in sorted(num)},
        "survivors": survivors,
    }


def _change(name: str) -> str:
    """The changed lines of a mutant, with - and +."""
    shown = subprocess.run(
        [Path(sys.executable).with_name("mutmut"), "show", name], capture_output=True, text=True, check=True
    )
    lines = shown.stdout.splitlines()
    return "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


if __name__ == "__main__":
    sys.exit(main())
