"""`mimic ui`: the studio, a web page on this machine."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path

from mimic.cli.options import Subparsers, UsageError
from mimic.cli.stopping import signals_raise

log = logging.getLogger("mimic")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "ui",
        parents=[shared],
        help="open the studio: fit, correct and generate on a web page",
        description="Serve the studio: see the motion fitted to the person, correct it, then generate.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on (default: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to serve on (default: 7860)")
    parser.add_argument(
        "--model", default="bundled:mini", metavar="M", help="as for `mimic animate` (default: bundled:mini)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("outputs/studio"),
        metavar="DIR",
        help="where results are kept (default: outputs/studio)",
    )
    parser.add_argument(
        "--reports",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder whose reports of comparisons and trainings are shown (default: the current one)",
    )
    parser.add_argument(
        "--max-upload", type=int, default=200, metavar="MB", help="refuse larger files (default: 200)"
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="refuse clips that are longer after trimming (default: 60)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if not 0 < options.port < 2**16:
        raise UsageError(f"--port is {options.port}; expected a number from 1 to {2**16 - 1}")
    if options.max_upload < 1:
        raise UsageError(f"--max-upload is {options.max_upload}; expected at least 1 MB")
    if not options.max_seconds > 0:
        raise UsageError(f"--max-seconds is {options.max_seconds:g}; expected more than 0")
    _check_free(options.host, options.port)
    try:
        from mimic.ui.results import UPLOADS
        from mimic.ui.serve import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise UsageError("the studio needs Gradio: pip install 'mimic-motion[ui]'") from None
    from mimic.devices import best_device, missing_cuda
    from mimic.files import local_path, without_empty_folders

    note = missing_cuda() if options.device == "auto" and best_device().type == "cpu" else None
    if note:
        log.warning(note)
    with signals_raise(), without_empty_folders(local_path(options.output_dir) / UPLOADS):
        serve(
            options.output_dir,
            host=options.host,
            port=options.port,
            model=options.model,
            device=options.device,
            reports=options.reports,
            max_upload_mb=options.max_upload,
            max_seconds=options.max_seconds,
            is_quiet=options.quiet,
        )
    return 0


def _check_free(host: str, port: int) -> None:
    """Raise `UsageError` where the studio could not be served, before the seconds that its start takes."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise UsageError(
            f"cannot serve on {host}, port {port}: the port is taken, or the address is not one of this "
            "machine; choose another --port or --host"
        ) from error
