"""The live tab's side on the server: a webcam's or a clip's frames in, pictures of the character out.

The page's script (`assets/live.js`) sends frames and asks for pictures over HTTP; Gradio only shows the tab.
"""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
from anyio.to_thread import run_sync
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mimic.devices import chosen_device
from mimic.families.registry import load_pipeline
from mimic.files import ASSETS
from mimic.generation.live import LiveCharacter, LiveStream, Shown
from mimic.video.images import BROKEN

MODEL = "bundled:mini"
CHARACTER = ASSETS / "demo" / "reference.png"
MAX_STREAMS = 2
MAX_FRAME_BYTES, MAX_PICTURE_BYTES = 2 * 2**20, 20 * 2**20
MAX_SIDE = {MAX_FRAME_BYTES: 1920, MAX_PICTURE_BYTES: 8192}
IDLE_SECONDS = 20.0
_WAIT_SECONDS = 2.0
_SHOWN_SIDE = 384

Picture = NDArray[np.uint8]


class LiveError(ValueError):
    """The character cannot be driven; the message is for the page."""


class LiveStage:
    """The live streams of all visitors, each under an id that only its page knows.

    Args:
        device: as `device` of a YAML.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._streams: dict[str, LiveStream] = {}
        self._lock = threading.Lock()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="live-start")

    def routes(self) -> list[Route]:
        """Return the routes below ``/live``."""
        return [
            Route("/live/start", _answered(self._start), methods=["POST"]),
            Route("/live/{id}/frame", _answered(self._frame), methods=["POST"]),
            Route("/live/{id}/picture", _answered(self._picture), methods=["GET"]),
            Route("/live/{id}/stop", _answered(self._stop), methods=["POST"]),
        ]

    def start(self, picture: Picture | None) -> str:
        """Start a stream that animates the person of a picture, by default the bundled one; returns its id.

        Raises:
            LiveError: all places are taken.
            ValueError, OSError: the picture cannot be used.
        """
        with self._lock:
            self._streams = {key: stream for key, stream in self._streams.items() if not stream.is_closed}
            if len(self._streams) >= MAX_STREAMS:
                raise LiveError(
                    f"{MAX_STREAMS} live characters are running already; stop one, or try again in "
                    f"{IDLE_SECONDS:.0f} seconds"
                )
        character = LiveCharacter(
            load_pipeline(MODEL, device=chosen_device(self._device)),
            CHARACTER if picture is None else picture,
        )
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._streams[name] = LiveStream(character, idle_s=IDLE_SECONDS)
        return name

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()

    async def _start(self, request: Request) -> Response:
        body = await _body(request, MAX_PICTURE_BYTES)
        picture = await run_sync(lambda: _decoded(body, MAX_PICTURE_BYTES)) if body else None
        name = await run_sync(lambda: self._starter.submit(self.start, picture).result())
        return JSONResponse({"id": name})

    async def _frame(self, request: Request) -> Response:
        stream = self._stream(request)
        body = await _body(request, MAX_FRAME_BYTES)
        number = await run_sync(lambda: stream.submit(_decoded(body, MAX_FRAME_BYTES)))
        return JSONResponse({"number": number})

    async def _picture(self, request: Request) -> Response:
        stream = self._stream(request)
        after = int(request.query_params.get("after", "0"))
        shown = await run_sync(lambda: stream.picture(after=after, timeout=_WAIT_SECONDS))
        if shown is None:
            return Response(status_code=204)
        return Response(_encoded(shown), media_type="image/jpeg", headers=_figures(stream, shown))

    async def _stop(self, request: Request) -> Response:
        with self._lock:
            stream = self._streams.pop(request.path_params["id"], None)
        if stream is not None:
            await run_sync(stream.close)
        return Response(status_code=204)

    def _stream(self, request: Request) -> LiveStream:
        stream = self._streams.get(request.path_params["id"])
        if stream is None or stream.is_closed:
            raise LiveError("this live character has ended; press Start again")
        return stream


def _figures(stream: LiveStream, shown: Shown) -> dict[str, str]:
    figures = stream.figures
    return {
        "X-Number": str(shown.number),
        "X-Seen": str(int(shown.is_seen)),
        "X-Rate": f"{figures.rate():.1f}",
        "X-Delay": f"{shown.delay_s:.3f}",
        "X-Dropped": str(figures.num_dropped),
        "Cache-Control": "no-store",
    }


def _encoded(shown: Shown) -> bytes:
    picture = Image.fromarray(shown.picture)
    factor = max(1, _SHOWN_SIDE // max(picture.size))
    large = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    large.save(buffer := io.BytesIO(), "JPEG", quality=88)
    return buffer.getvalue()


def _decoded(body: bytes, limit: int) -> Picture:
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG", "WEBP")) as picture:
            if max(picture.size) > MAX_SIDE[limit]:
                raise LiveError(
                    f"the picture has {picture.width}x{picture.height} pixels; up to {MAX_SIDE[limit]} a "
                    "side are taken"
                )
            return np.asarray(picture.convert("RGB"))
    except LiveError:
        raise
    except BROKEN as error:
        raise LiveError("this is no picture that can be read; use JPEG, PNG or WebP") from error


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise LiveError(f"the picture has more than {most // 2**20} MB")
        parts.append(part)
    return b"".join(parts)


def _answered(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose errors are answered as a sentence, and which other sites' pages cannot call."""

    async def answer(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return JSONResponse({"error": "requests from other sites are refused"}, status_code=403)
        try:
            return await handler(request)
        except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
            return JSONResponse({"error": str(error) or type(error).__name__}, status_code=400)

    return answer
