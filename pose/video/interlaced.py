"""Interlaced frames made whole: one full frame for each, so that counts and times stay."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import av.filter


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Pass frames on as they are until the first interlaced one, and from there through FFmpeg's ``bwdif``.

    The filter leaves frames alone that are not marked as interlaced.
    """
    for frame in frames:
        if frame.interlaced_frame:
            yield from _filtered(frame, frames)
            return
        yield frame


def _filtered(first: av.VideoFrame, rest: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    graph, kind = _graph(first), _kind(first)
    stamps: deque[tuple[int | None, Fraction | None]] = deque()
    frame: av.VideoFrame | None = first
    while frame is not None:
        if _kind(frame) != kind:
            graph.push(None)
            yield from _pulled(graph, stamps)
            graph, kind = _graph(frame), _kind(frame)
        stamps.append((frame.pts, frame.time_base))
        graph.push(frame)
        yield from _pulled(graph, stamps)
        frame = next(rest, None)
    graph.push(None)
    yield from _pulled(graph, stamps)


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    weave = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, weave, graph.add("buffersink")).configure()
    return graph


def _pulled(
    graph: av.filter.Graph, stamps: deque[tuple[int | None, Fraction | None]]
) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        frame.pts, base = stamps.popleft()  # the filter counts in half ticks
        if base is not None:
            frame.time_base = base
        yield frame
