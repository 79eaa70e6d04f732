"""Serve the studio."""

from __future__ import annotations

import logging
import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from mimic.files import local_path
from mimic.ui.live import LiveStage
from mimic.ui.page import CSS, EXAMPLE_CLIP, SCRIPTS, build_page
from mimic.ui.studio import MAX_SECONDS, Studio

log = logging.getLogger("mimic")

MAX_UPLOAD_MB = 200
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
        max_upload_mb: size of a file above which an upload is refused.
        max_seconds: length of a clip, after trimming, above which it is refused.
        is_blocking: wait; if false, return the running page.

    Raises:
        OSError: the port is in use.
    """
    folder = local_path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / ".uploads")
    studio = Studio(folder, model=model, device=device, max_seconds=max_seconds)
    page = build_page(studio, local_path(reports).resolve())
    stage = LiveStage(device)
    scripts = [f"<script>{path.read_text(encoding='utf-8')}</script>" for path in SCRIPTS]
    page.launch(
        server_name=host,
        server_port=port,
        allowed_paths=[str(folder), str(EXAMPLE_CLIP.parent)],
        blocked_paths=[str(Path.home() / ".cache")],
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
        ),
        css=CSS,
        head="\n".join([_VIEWPORT, *scripts]),
        app_kwargs={"routes": stage.routes()},
        footer_links=["api"],
    )
    if not is_quiet:
        log.info("the studio is at http://%s:%d (results in %s); Ctrl+C ends it", host, port, folder)
    if is_blocking:
        page.block_thread()
    return page
