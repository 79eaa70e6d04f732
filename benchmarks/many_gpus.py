"""How much faster do several GPUs render one clip? A model of computation against communication.

    python -m benchmarks.many_gpus              prints the table of docs/many-machines.md
    python -m benchmarks.many_gpus --rate 300   other assumptions

Processes take the windows of a step in turn, and each prediction is sent to all of them before the next round
(`mimic.distributed`). A step of W windows on N processes therefore lasts

    ceil(W / N) * window + W * prediction / bandwidth

against ``W * window`` on one GPU. The FLOPs of a window were counted on fake tensors at 576x1024
(`benchmarks/results/speed_operators.json`); a window is two passes, for guidance. Its duration follows from
the rate at which a GPU really computes, which is an assumption, as is the bandwidth. Not in the model: stages
that one process does alone (poses, encoding of the file), decoding (whose chunks are shared in the same way),
and time lost while processes of unequal speed wait for each other.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.sampling.windows import lay_windows

OPERATORS = Path(__file__).parent / "results" / "speed_operators.json"
TILE, OVERLAP = 16, 6
LATENT_BYTES = TILE * 4 * (576 // 8) * (1024 // 8) * 4
"""Of the prediction of a window, in float32."""


@dataclass(frozen=True)
class Hardware:
    """Assumptions."""

    rate: float = 400.0
    """TFLOP/s that one GPU reaches on this UNet."""
    within: float = 100.0
    """Bandwidth of a broadcast between GPUs of one machine, GB/s."""
    between: float = 10.0
    """Bandwidth of a broadcast between machines, GB/s."""
    latency: float = 1e-4
    """Of a broadcast, in seconds."""


def window_tflop() -> float:
    """Return the TFLOP of one window: both branches of guidance."""
    operators = json.loads(OPERATORS.read_text(encoding="utf-8"))["passes"]["16 frames, ours"]
    return 2 * sum(cost["flop"] for cost in operators.values()) / 1e12


def efficiency(num_windows: int, num_gpus: int, hardware: Hardware, *, num_machines: int = 1) -> float:
    """Return the speed-up of a step over one GPU, divided by the number of GPUs."""
    window = window_tflop() / hardware.rate
    bandwidth = hardware.within if num_machines == 1 else hardware.between
    sending = num_windows * (LATENT_BYTES / (bandwidth * 1e9) + hardware.latency) if num_gpus > 1 else 0.0
    step = math.ceil(num_windows / num_gpus) * window + sending
    return num_windows * window / step / num_gpus


def table(hardware: Hardware) -> Iterator[str]:
    """Yield the lines of the table."""
    layouts = {"2 GPUs": (2, 1), "4 GPUs": (4, 1), "8 GPUs": (8, 1), "2 x 8 GPUs": (16, 2)}
    yield f"| frames | windows | {' | '.join(layouts)} |"
    yield f"| ---: | ---: |{' ---: |' * len(layouts)}"
    for frames in (72, 150, 300, 600, 1200, 3000):
        windows = len(lay_windows(frames, TILE, OVERLAP, "reference"))
        shares = (
            efficiency(windows, gpus, hardware, num_machines=machines) for gpus, machines in layouts.values()
        )
        yield f"| {frames} | {windows} | {' | '.join(f'{100 * share:.0f} %' for share in shares)} |"


def main() -> None:
    """Print assumptions and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in vars(Hardware()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"default: {value}")
    hardware = Hardware(**vars(parser.parse_args()))
    print(
        f"A window is {window_tflop():.0f} TFLOP, {window_tflop() / hardware.rate:.2f} s at "
        f"{hardware.rate:g} TFLOP/s; its prediction {LATENT_BYTES / 1e6:.1f} MB, sent at {hardware.within:g} "
        f"GB/s within a machine and {hardware.between:g} GB/s between machines.\n"
    )
    print("\n".join(table(hardware)))


if __name__ == "__main__":
    main()
