"""Serve the studio."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from mimic.files import local_path
from mimic.ui.errors import StudioError
from mimic.ui.handlers import Handlers
from mimic.ui.live import LiveStage
from mimic.ui.page import CLEANED, CSS, EXAMPLE_CLIP, SCRIPTS, build_page
from mimic.ui.reports import Reports
from mimic.ui.results import UPLOADS, remove_left
from mimic.ui.studio import MAX_SECONDS, Studio

log = logging.getLogger("mimic")

MAX_UPLOAD_MB = 200
STOPPING_S = 10.0
"""For how many seconds an interrupted server waits for work to stop."""
_EVERYWHERE = ("0.0.0.0", "::")
_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str = "bundled:mini",
    device: str = "auto",
    reports: Path = Path(),
    max_upload_mb: int = MAX_UPLOAD_MB,
    max_seconds: float = MAX_SECONDS,
    is_quiet: bool = False,
    is_blocking: bool = True,
) -> gr.Blocks:
    """Serve the studio until it is interrupted.

    Args:
        folder: where results and uploads are kept; nothing else on this machine is served.
        host, port: address; other machines can connect to ``0.0.0.0`` only.
        model: as `mimic animate --model` takes it; it is found before the page is served, and loaded later.
        device: as `device` of a YAML.
        reports: folder in which reports are looked for.
        max_upload_mb: size of a file above which an upload is refused.
        max_seconds: length of a clip, after trimming, above which it is refused.
        is_blocking: wait; if false, return the running page.

    Raises:
        StudioError: it cannot be served there, or the studio cannot use the model (a `ValueError`).
        SourceError: the model is not found (an `OSError`).
        InputError, ConfigError: the model belongs to no family, or there is no such device (`ValueError`).
        KeyboardInterrupt: it was interrupted; the server has been closed.
    """
    folder = local_path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / UPLOADS)
    _ask_this_machine_directly(host)
    studio = Studio(folder, model=model, device=device, max_seconds=max_seconds)
    studio.model.check()
    remove_left(folder, older_than_s=CLEANED[1])
    handlers, found = Handlers(studio), Reports(local_path(reports).resolve())
    page = build_page(handlers, found)
    stage = LiveStage(device)
    scripts = [f"<script>{path.read_text(encoding='utf-8')}</script>" for path in SCRIPTS]
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,  # not said, Gradio opens a public address on Colab, Kaggle and SageMaker
            allowed_paths=[str(folder), str(EXAMPLE_CLIP.parent)],
            max_file_size=max_upload_mb * 2**20,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            theme=gr.themes.Base().set(
                button_primary_background_fill="*primary_700",
                body_text_color_subdued="*neutral_600",
                body_text_color_subdued_dark="*neutral_300",
                block_info_text_color="*neutral_600",
                block_info_text_color_dark="*neutral_300",
                block_label_text_color="*neutral_700",
                block_label_text_color_dark="*neutral_200",
                block_title_text_color="*neutral_700",
                block_title_text_color_dark="*neutral_200",
                link_text_color="*secondary_700",
                link_text_color_visited="*secondary_700",
                link_text_color_dark="*secondary_300",
                link_text_color_active_dark="*secondary_300",
                link_text_color_visited_dark="*secondary_300",
            ),
            css=CSS,
            head="\n".join([_VIEWPORT, *scripts]),
            app_kwargs={"routes": [*stage.routes(), found.route()]},
            footer_links=["api"],
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        raise StudioError(
            f"cannot serve on {host}, port {port}: the port is taken, or the address is not one of this "
            "machine; choose another --port or --host"
        ) from error
    if not is_quiet:
        shown = "127.0.0.1" if host in _EVERYWHERE else host
        also = ", and at this machine's other addresses" if host in _EVERYWHERE else ""
        log.info("the studio is at http://%s:%d%s (results in %s); Ctrl+C ends it", shown, port, also, folder)
    if is_blocking:
        try:
            while True:
                time.sleep(0.5)
        finally:
            handlers.stop_all(STOPPING_S)
            stage.close()
            page.close(verbose=False)
    return page


def _ask_this_machine_directly(host: str) -> None:
    """Gradio asks its own page whether it is there, and no proxy of a company can answer that."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [*filter(None, named.split(",")), "127.0.0.1", "localhost", host]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(names))
