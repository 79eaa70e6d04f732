"""Parse the command line, run one command, and turn its errors into a sentence on stderr and an exit code.

0: done. 1: something failed. 2: the user's input cannot be used. 130: interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

from mimic.cli import compare, demo, doctor, download, evaluate, infer, pose, prepare, synth, train

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = (demo, infer, pose, prepare, synth, evaluate, compare, download, doctor, train)

MISTAKES = frozenset(
    {
        "AttentionBackendError", "CompareError", "ConfigError", "DataError", "DensePoseError",
        "EstimatorWeightsError", "EvaluationError", "FolderInUseError", "InputError", "PictureError",
        "PoseError", "ProcessCountError", "ResultError", "SourceError", "UsageError", "VideoError",
        "WeightsError", "WorkerError",
    }
)  # fmt: skip
"""Our error classes that are about the user's input (exit code 2)."""


def main(argv: Sequence[str] | None = None, *, program: str = "mimic") -> int:
    """Run one command; returns the exit code.

    Args:
        argv: the command and its arguments; the process's own unless given.
        program: name to use in messages: a script that runs one command gives its own.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is replaced, not an error
            stream.reconfigure(errors="backslashreplace")
    if hasattr(signal, "SIGBREAK"):  # Ctrl+Break on Windows
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    options = _parsed(list(sys.argv[1:] if argv is None else argv), program)
    _show_messages(is_quiet=options.quiet)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted; finished results are kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has ended, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if options.debug:
            raise
        code, text = described(error)
        for line in text.splitlines():
            print(f"{program}: {line}", file=sys.stderr)
        return code


def described(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error; an unexpected one also shows its class."""
    ours = (kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in ("mimic", "pose"))
    is_mistake = isinstance(error, FileNotFoundError) or any(kind.__name__ in MISTAKES for kind in ours)
    text = str(error).strip() or type(error).__name__
    if is_mistake or isinstance(error, OSError):
        return (MISTAKE if is_mistake else FAILED), text
    return FAILED, f"{type(error).__name__}: {text}\n(--debug shows the traceback)"


def _parsed(arguments: list[str], program: str) -> argparse.Namespace:
    """Options in any order: argparse alone takes key=value only in one place."""
    parser = argparse.ArgumentParser(
        prog="mimic",
        description="One picture of a person and a driving video in, a video of that person making those "
        "movements out.",
        epilog="`mimic COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"mimic {_version()}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared.add_argument("-q", "--quiet", action="store_true", help="print only results and errors, no bars")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers, shared)
    if program != "mimic" and arguments and arguments[0] in subparsers.choices:
        subparsers.choices[arguments[0]].prog = program
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all("=" in item and item[0] != "-" for item in rest)):
        chosen = subparsers.choices[options.command]
        chosen.error(f"unknown: {' '.join(rest)} (see `{chosen.prog} --help`)")
    if rest:
        options.overrides.extend(rest)
    return options


def _show_messages(*, is_quiet: bool) -> None:
    """Send the messages of our packages to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("mimic", "pose"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING if is_quiet else logging.INFO)
        logger.propagate = False


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("mimic-motion")
    except metadata.PackageNotFoundError:
        return "(not installed)"
