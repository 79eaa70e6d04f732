"""Commands by name, and how their errors end: one sentence on stderr and an exit code.

0: done. 1: something failed. 2: what the user gave cannot be worked with. 130: interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from mimic.cli import commands

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None, *, program: str = "mimic") -> int:
    """Run one command; returns the exit code.

    Args:
        argv: the command and its arguments; the process's own unless given.
        program: what the user called, for messages: a script that stands for one command gives its name.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:  # has a parser of its own, which train.py shares
        called = program if program != "mimic" else "mimic train"
        return _ended(
            lambda: commands.train(arguments[1:], program=called),
            is_debugging="--debug" in arguments,
            program=program,
        )
    options = _parsed(arguments)
    _show_messages(is_quiet=options.quiet)
    return _ended(lambda: options.run(options), is_debugging=options.debug)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """Options in any order: argparse alone takes key=value only in one place."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all("=" in item and item[0] != "-" for item in rest)):
        parser.error(f"unknown: {' '.join(rest)} (see `mimic {options.command} --help`)")
    if rest:
        options.overrides.extend(rest)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimic",
        description="One picture of a person and a driving video in, a video of that person making those "
        "movements out.",
        epilog="`mimic COMMAND --help` tells more of each.",
    )
    parser.add_argument("--version", action="version", version=f"mimic {_version()}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors, show no bars")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in commands.ALL:
        add(subparsers, shared)
    subparsers.add_parser("train", help="train a model as a YAML says", add_help=False)
    return parser


def _ended(run: commands.Run, *, is_debugging: bool, program: str = "mimic") -> int:
    """What a command's end means for the shell."""
    try:
        return run()
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if is_debugging:
            raise
        is_mistake = isinstance(error, _mistakes())
        for line in _told(error, is_mistake=is_mistake).splitlines():
            print(f"{program}: {line}", file=sys.stderr)
        return MISTAKE if is_mistake else FAILED


def _told(error: Exception, *, is_mistake: bool) -> str:
    text = str(error).strip() or type(error).__name__
    if is_mistake or isinstance(error, OSError):
        return text
    return f"{type(error).__name__}: {text}\n(--debug shows where)"


def _mistakes() -> tuple[type[Exception], ...]:
    """Errors that tell of what the user gave. Only the modules that are loaded can have raised theirs."""
    homes = {
        "mimic.config.loading": ("ConfigError",),
        "mimic.data.index": ("DataError",),
        "mimic.generation.checks": ("InputError",),
        "mimic.metrics.clips": ("EvaluationError",),
        "mimic.compare.run": ("CompareError",),
        "mimic.video.images": ("PictureError",),
        "mimic.weights.sources": ("SourceError",),
        "mimic.weights.strict": ("WeightsError",),
        "pose.types": ("PoseError",),
        "pose.video.source": ("VideoError",),
    }
    loaded = ((sys.modules.get(module), names) for module, names in homes.items())
    found = [getattr(module, name) for module, names in loaded if module is not None for name in names]
    return (*found, FileNotFoundError, commands.UsageError)


def _show_messages(*, is_quiet: bool) -> None:
    """Send the messages of our own packages to stderr, as they are."""
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
