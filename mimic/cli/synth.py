"""`mimic synth`: render dancers with exact poses."""

from __future__ import annotations

import argparse
from pathlib import Path

from mimic.cli.options import Subparsers, UsageError


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "synth",
        parents=[shared],
        help="render dancers: videos with exact poses",
        description="Render dancers into clip_0000.mp4, their exact poses into clip_0000.npz, and so on.",
    )
    parser.add_argument(
        "-o",
        "--output-dir",
        type=Path,
        default=Path("outputs/synth"),
        metavar="DIR",
        help="default: outputs/synth",
    )
    parser.add_argument(
        "-n", "--num-clips", type=int, default=4, metavar="N", help="number of clips (default: 4)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of each (default: 4)")
    parser.add_argument("--fps", type=float, default=12.0, help="frames per second (default: 12)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(384, 384),
        metavar=("HEIGHT", "WIDTH"),
        help="in pixels (default: 384 384)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed renders the same clips (default: 0)"
    )
    parser.add_argument(
        "--world",
        default="plain",
        choices=("plain", "portraits", "rich"),
        help="plain (default): whole figures from the front; portraits: also half bodies and close-ups; "
        "rich: more variety of people, motion, backgrounds and light",
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="STRENGTH",
        help="add a detector's errors to the poses; 1 is a usual detector",
    )
    parser.add_argument(
        "--densepose",
        action="store_true",
        help="also write clip_0000.densepose.mp4: the exact body parts in DensePose's colours",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace clips made with other options (default: they are set aside as clip_0000.1.mp4)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.dancers.write import synth
    from mimic.progress import progress_bar
    from mimic.results import ResultError

    try:
        with progress_bar("rendering", "clip", is_shown=not options.quiet) as show:
            paths = synth(
                options.output_dir,
                num_clips=options.num_clips,
                seconds=options.seconds,
                fps=options.fps,
                height=options.size[0],
                width=options.size[1],
                seed=options.seed,
                world=options.world,
                noise_strength=options.noise,
                densepose=options.densepose,
                overwrite=options.overwrite,
                progress=show,
            )
    except ResultError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    for path in paths:
        print(path)
    return 0
