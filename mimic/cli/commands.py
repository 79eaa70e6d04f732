"""The commands' options, and the few lines that lead from options to the work."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.sampling.windows import WINDOW_LAYOUTS

if TYPE_CHECKING:
    from mimic.config import InferenceConfig

Run = Callable[[], int]
Subparsers = Any  # argparse's own type for this is private

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class UsageError(ValueError):
    """Options that do not go together."""


def add_demo(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "demo",
        parents=[shared],
        help="make the bundled character dance (minutes, no download)",
        description="Run the shipped demo.yaml: the bundled model, picture and driving clip.",
        epilog="With your own clip: mimic demo test_case.0.ref_video_path=my_dance.mp4",
    )
    _add_run_options(parser)
    parser.set_defaults(run=_demo)


def add_infer(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "infer",
        parents=[shared],
        help="run the cases of a YAML",
        description="Make the videos that a YAML asks for; the released test.yaml runs as it is.",
    )
    parser.add_argument(
        "--config",
        "--inference_config",
        required=True,
        type=Path,
        metavar="FILE",
        help="the YAML with the cases",
    )
    _add_run_options(parser)
    parser.add_argument(
        "--no_use_float16", action="store_true", help="compute in float32 (the released script's name for it)"
    )
    parser.add_argument("--log_file", type=Path, metavar="FILE", help="also write the messages to this file")
    parser.set_defaults(run=_infer)


def add_pose(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "pose",
        parents=[shared],
        help="find the poses in a video or picture",
        description="Estimate whole-body poses (134 points) and save them, and a file that shows them.",
    )
    parser.add_argument("input", type=Path, metavar="VIDEO|IMAGE")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npz", help="default: the input's name, here"
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE", help="also draw them over the input: .mp4 or .png"
    )
    parser.add_argument(
        "--person",
        default="largest",
        help="largest (default), center, all, or a number counted from the left",
    )
    parser.add_argument("--estimator", default="auto", choices=("auto", "dwpose", "blazepose"))
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the DWPose files are")
    parser.add_argument("--stride", type=int, default=1, help="take every so-manieth frame (default: all)")
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after so many")
    parser.add_argument(
        "--smooth", type=int, default=1, metavar="N", help="smooth over N frames, an odd number"
    )
    parser.set_defaults(run=_pose)


def add_prepare(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "prepare",
        parents=[shared],
        help="make clips with poses of a folder of videos, to train on",
        description="Divide videos at their cuts, find the poses of the one person in each, and list what "
        "can serve and what cannot. Stopped at any moment, the same command goes on; under torchrun or "
        "accelerate launch the videos are shared out. Afterwards look at contact.png.",
        epilog="Settings as key=value: min_frames=16 min_size=256 min_coverage=0.8 max_seconds=60 "
        "max_gap_seconds=0.5 other_size=0.4 max_others=0.1 val_share=0.1",
    )
    parser.add_argument("--videos", required=True, type=Path, metavar="DIR", help="where the videos are")
    parser.add_argument("--out", required=True, type=Path, metavar="DATA", help="where the result goes")
    parser.add_argument("--estimator", choices=("auto", "dwpose", "blazepose"), help="default: auto")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the DWPose files are")
    parser.add_argument(
        "--person",
        help="one (default: clips with several people are dropped), largest, center, or a number counted "
        "from the left",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:<index>")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--seed", type=int, help="of the split and the contact sheet (default: 0)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as below")
    parser.set_defaults(run=_prepare)


def add_synth(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "synth",
        parents=[shared],
        help="render dancers: videos with exact poses",
        description="Render dancers into clip_0000.mp4, their exact poses into clip_0000.npz, and so on.",
    )
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("outputs/synth"), metavar="DIR")
    parser.add_argument("-n", "--num-clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--fps", type=float, default=12.0)
    parser.add_argument("--size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", default="plain", choices=("plain", "rich"), help="how much varies")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="STRENGTH",
        help="poses as a detector finds them; 1 is usual",
    )
    parser.add_argument(
        "--densepose",
        action="store_true",
        help="write clip_0000.densepose.mp4 too: the exact parts of the body in DensePose's colours",
    )
    parser.set_defaults(run=_synth)


def add_evaluate(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        parents=[shared],
        help="measure generated clips against the truth",
        description="Pair clips by name and measure them; what cannot be measured is said, with the reason.",
        epilog="PATH: a video, a folder of pictures (one clip), or a folder of those. Networks: files, or "
        "hf:owner/repository/file, TorchScript or published weights (table in mimic/metrics/features.py).",
    )
    parser.add_argument("--generated", "-g", required=True, type=Path, metavar="PATH")
    parser.add_argument("--truth", "-t", required=True, type=Path, metavar="PATH")
    parser.add_argument(
        "--protocol",
        choices=("A", "B", "none"),
        default="none",
        help="rules of published figures: A (MimicMotion's), B (DisCo's: 256 x 256, PSNR overflow, L1/HW)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="write all figures here")
    parser.add_argument(
        "--frames", choices=("equal", "shortest"), default="equal", help="what to do with unequal lengths"
    )
    parser.add_argument("--allow-unpaired", action="store_true", help="leave out clips without a partner")
    networks = {
        "lpips": "VGG-16 or AlexNet with LPIPS weights; the two published files joined by +",
        "fid": "Inception-v3",
        "fid-vid": "3D ResNet-50",
        "fvd": "I3D",
    }
    for name, what in networks.items():
        parser.add_argument(f"--{name}-network", metavar="FILE", help=what)
    parser.add_argument("--pose", action="store_true", help="estimate poses anew in both and compare them")
    parser.add_argument("--estimator", default="auto", choices=("auto", "dwpose", "blazepose"))
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the DWPose files are")
    parser.add_argument("--face-model", type=Path, metavar="FILE.onnx", help="compare faces by this model")
    parser.add_argument(
        "--tile-size", type=int, metavar="N", help="window the clips were made in (seams); else their .json's"
    )
    parser.add_argument("--tile-overlap", type=int, metavar="N", help="and its overlap")
    parser.add_argument(
        "--windows",
        choices=WINDOW_LAYOUTS,
        help="layout of these windows; else their .json's, or reference (MimicMotion's) where there is none",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …: where networks compute")
    parser.set_defaults(run=_evaluate)


def add_compare(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "compare",
        parents=[shared],
        help="run models side by side and write a page",
        description="Run variants x clips x seeds of a YAML; results.jsonl and report.html. Goes on where it "
        "stopped: cells that are there are kept.",
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings in place of the YAML's")
    parser.set_defaults(run=_compare)


def add_download(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "download",
        parents=[shared],
        help="fetch released weights",
        description="Fetch released weights after telling their size and licence; goes on where it stopped.",
    )
    parser.add_argument("name", choices=("mimicmotion", "dwpose"))
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="default: models/ for mimicmotion, the cache for dwpose"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="accept the licences without being asked")
    parser.set_defaults(run=_download)


def add_doctor(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "doctor",
        parents=[shared],
        help="tell what this machine can do",
        description="Tell which devices, codecs, pose estimators and weights are here, and what can be run.",
    )
    parser.set_defaults(run=_doctor)


ALL = (
    add_demo,
    add_infer,
    add_pose,
    add_prepare,
    add_synth,
    add_evaluate,
    add_compare,
    add_download,
    add_doctor,
)


def train(arguments: Sequence[str], *, program: str = "mimic train") -> int:
    """`mimic train` is train.py."""
    from mimic.training.main import main

    return main([argument for argument in arguments if argument != "--debug"], program=program)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output-dir", "--output_dir", type=Path, metavar="DIR", help="where results go (default: outputs)"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings in place of the YAML's: device=cpu, seed=3 (all cases), test_case.0.seed=3 (one)",
    )


def _demo(options: argparse.Namespace) -> int:
    from mimic.config import load_inference_config, shipped_config

    return _run(load_inference_config(shipped_config("demo.yaml"), options.overrides), options)


def _infer(options: argparse.Namespace) -> int:
    from mimic.config import load_inference_config

    overrides = [*options.overrides, *(["dtype=float32"] if options.no_use_float16 else [])]
    if options.log_file is not None:
        options.log_file.parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("mimic").addHandler(logging.FileHandler(options.log_file, "w", encoding="utf-8"))
    return _run(load_inference_config(options.config, overrides), options)


def _run(config: InferenceConfig, options: argparse.Namespace) -> int:
    missing = config.missing_inputs()
    if missing:  # told before torch is imported, which takes seconds
        raise UsageError("\n".join(missing))
    from mimic.generation import run_config
    from mimic.generation.run import one_line

    log = logging.getLogger("mimic")
    outcome = run_config(
        config, output_dir=options.output_dir, is_progress_shown=not options.quiet, say=log.info
    )
    if outcome.failures and (options.debug or len(config.test_case) == 1):
        raise outcome.failures[0].error
    if outcome.results:
        log.info("look at:")
    for result in outcome.results:
        print(result.side_by_side or result.path)
    for failure in outcome.failures:
        log.error("failed: %s: %s", failure.name, one_line(failure.error))
    return 1 if outcome.failures else 0


def _pose(options: argparse.Namespace) -> int:
    from mimic.cli.pose import estimate

    return estimate(options)


def _prepare(options: argparse.Namespace) -> int:
    from mimic.cli.prepare import prepare

    return prepare(options)


def _synth(options: argparse.Namespace) -> int:
    from mimic.dancers.write import synth
    from mimic.progress import progress_bar

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
                progress=show,
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    for path in paths:
        print(path)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from mimic.cli.evaluate import run

    return run(options)


def _compare(options: argparse.Namespace) -> int:
    from mimic.compare.run import compare
    from mimic.compare.settings import load_compare_config

    log = logging.getLogger("mimic")
    outcome = compare(load_compare_config(options.config, options.overrides), say=log.info)
    log.info("%d made, %d kept, %d failed", outcome.num_made, outcome.num_kept, len(outcome.failures))
    print(outcome.results)
    if outcome.report is not None:
        print(outcome.report)
    for failure in outcome.failures:
        log.error("failed: %s", failure)
    return 1 if outcome.failures else 0


def _download(options: argparse.Namespace) -> int:
    from mimic.weights.download import RELEASES, describe, fetch

    release = RELEASES[options.name]
    folder = options.to or _default_folder(options.name)
    print(describe(release, folder), flush=True)
    if release.needs_consent and not options.yes and not _agrees():
        return 2
    for path in fetch(release, folder, say=lambda line: print(line, flush=True)):
        print(path)
    return 0


def _default_folder(name: str) -> Path:
    if name == "dwpose":
        from pose.dwpose import weights_folder

        return weights_folder()
    return Path("models")


def _agrees() -> bool:
    try:
        answer = input("Do you accept these licences? [y/N] ")
    except EOFError:
        answer = ""
        print()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was downloaded. `--yes` accepts the licences.")
    return False


def _doctor(options: argparse.Namespace) -> int:
    from mimic.cli.doctor import report

    for line in report():
        print(line)
    return 0
