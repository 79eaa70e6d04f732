"""Parse the command line, run one command, and turn its errors into a sentence on stderr and an exit code."""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from mimic.cli import (
    animate,
    compare,
    completion,
    configs,
    demo,
    doctor,
    download,
    evaluate,
    export,
    infer,
    pose,
    prepare,
    synth,
    train,
    ui,
)
from mimic.cli.json_log import JsonHandler, json_lines
from mimic.cli.options import Subparsers
from mimic.cli.stopping import Terminated
from pose.text import printable

SHARED_OPTIONS = ("--debug", "-q", "--quiet", "--log-json")
DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """exit codes:
  0    done
  1    something failed: a case, a download, a full disk; the message says what, finished results are kept
  2    the input cannot be used: an option, a setting, a file; nothing was made
  130  interrupted (Ctrl-C; 143 by SIGTERM); finished results are kept"""

COMMANDS = (
    demo, animate, infer, ui, train, export, prepare, compare, evaluate, pose, synth, configs, download,
    doctor, completion,
)  # fmt: skip

MISTAKES = frozenset(
    {
        "AttentionBackendError", "CompareError", "ConfigError", "DataError", "DensePoseError",
        "EstimatorWeightsError", "EvaluationError", "FolderInUseError", "InputError", "LiveError",
        "OfflineError", "PictureError", "PoseError", "ProcessCountError", "ResultError", "SourceError",
        "StudioError", "UsageError", "VariantError", "VideoError", "WeightsError", "WorkerError",
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
    is_main_thread = threading.current_thread() is threading.main_thread()
    if hasattr(signal, "SIGBREAK") and is_main_thread:  # Ctrl+Break on Windows
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    options = _parsed(list(sys.argv[1:] if argv is None else argv), program)
    _quiet_libraries(is_debug=options.debug)
    if not options.log_json:
        _show_messages(logging.StreamHandler(), is_quiet=options.quiet)
        return _run(options, lambda code, text: _print_error(program, text))
    from mimic.progress import emit

    with json_lines():
        _show_messages(JsonHandler(), is_quiet=options.quiet)
        code = _run(options, lambda code, text: emit("error", text=text, exit_code=code))
        emit("end", exit_code=code)
    return code


def _run(options: argparse.Namespace, tell: Callable[[int, str], None]) -> int:
    """Run a parsed command; `tell` is called with the exit code and message of an error."""
    try:
        code: int = options.run(options)
        if sys.stdout is not None:  # a program without a console has none
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        by = f" by {stop}" if isinstance(stop, Terminated) else ""
        code = stop.exit_code if isinstance(stop, Terminated) else INTERRUPTED
        tell(code, f"interrupted{by}; finished results are kept")
        return code
    except BrokenPipeError:  # the reader of our output has ended, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return FAILED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        code, text = described(error)
        tell(code, text)
        return code


def _print_error(program: str, text: str) -> None:
    if text.startswith("interrupted"):
        print(f"\n{text}", file=sys.stderr)
        return
    for line in printable(text).splitlines():
        print(f"{program}: {line}", file=sys.stderr)


def described(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error; an unexpected one also shows its class."""
    ours = (kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in ("mimic", "pose"))
    is_mistake = isinstance(error, FileNotFoundError) or any(kind.__name__ in MISTAKES for kind in ours)
    text = str(error).strip() or type(error).__name__
    if is_mistake or isinstance(error, OSError):
        return (MISTAKE if is_mistake else FAILED), text
    return FAILED, f"{type(error).__name__}: {text}\n(--debug shows the traceback)"


def _parsed(arguments: list[str], program: str) -> argparse.Namespace:
    """Options in any order: argparse alone takes key=value only in one place, and shared options only after
    the command."""
    parser, subparsers = build_parser()
    first = next((place for place, word in enumerate(arguments) if word not in SHARED_OPTIONS), 0)
    arguments = [*arguments[first : first + 1], *arguments[:first], *arguments[first + 1 :]]
    _check_command(parser, subparsers, arguments)
    if program != "mimic" and arguments and arguments[0] in subparsers.choices:
        subparsers.choices[arguments[0]].prog = program
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all("=" in item and item[0] != "-" for item in rest)):
        chosen = subparsers.choices[options.command]
        chosen.error(
            f"unknown: {' '.join(rest)}{_hint(rest, chosen, takes_settings=hasattr(options, 'overrides'))}"
        )
    if rest:
        options.overrides.extend(rest)
    return options


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence, without all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISTAKE, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def _hint(rest: Sequence[str], parser: argparse.ArgumentParser, *, takes_settings: bool) -> str:
    """What may be meant by words that are neither options nor settings."""
    from mimic.config import InferenceConfig

    name, _, value = rest[0].lstrip("-").partition("=")
    key = name.replace("-", "_")
    if takes_settings and key in {*InferenceConfig.FOR_ALL_CASES, *InferenceConfig.model_fields}:
        return f"; settings are given as key=value: {key}={value or next(iter(rest[1:]), '…')}"
    return nearest(rest[0], [name for action in parser._actions for name in action.option_strings])


def build_parser() -> tuple[argparse.ArgumentParser, Subparsers]:
    """Return the parser of the command line, and its subparsers."""
    parser: argparse.ArgumentParser = _Parser(
        prog="mimic",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="One picture of a person and a driving video in, a video of that person making those\n"
        "movements out.",
        epilog="`mimic COMMAND --help` describes a command. All take -q (only results and errors),\n"
        f"--log-json (JSON for programs) and --debug (tracebacks).\n\n{EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"mimic {_version()}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared.add_argument("-q", "--quiet", action="store_true", help="print only results and errors, no bars")
    shared.add_argument(
        "--log-json",
        action="store_true",
        help="print everything as JSON on stdout, one object per line: messages, progress, results, errors",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers, shared)
    return parser, subparsers


def _check_command(parser: argparse.ArgumentParser, subparsers: Subparsers, arguments: list[str]) -> None:
    """End with exit code 2 and one sentence if the command is unknown; argparse would list all of them."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in subparsers.choices:
        hint = nearest(arguments[0], list(subparsers.choices)) or f"; use {', '.join(subparsers.choices)}"
        parser.exit(MISTAKE, f"mimic: there is no command {arguments[0]}{hint}\n")


def nearest(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean …?`` for the most similar of the known words; empty if none is similar."""
    near = difflib.get_close_matches(word.partition("=")[0], known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _quiet_libraries(*, is_debug: bool) -> None:
    """Hide notices of libraries that are not yet imported; their errors are shown."""
    if not is_debug:
        for library in ("TRANSFORMERS", "DIFFUSERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")


def _show_messages(handler: logging.Handler, *, is_quiet: bool) -> None:
    """Send the messages of our packages to a handler."""
    handler.setFormatter(_Printable("%(message)s"))
    for name in ("mimic", "pose"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING if is_quiet else logging.INFO)
        logger.propagate = False


class _Printable(logging.Formatter):
    """Shows what would steer a terminal, in names of files for example, as `\\x1b`."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("mimic-motion")
    except metadata.PackageNotFoundError:
        return "(not installed)"
