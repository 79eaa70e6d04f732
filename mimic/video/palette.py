"""Reduce a frame to a palette of its own, as GIF needs it."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter

_DITHER = "sierra2_4a"


def with_own_palettes(frame: av.VideoFrame) -> av.VideoFrame:
    """Return an RGB frame with 256 colours chosen for it, pixel format ``pal8``."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", f"new=1:dither={_DITHER}")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.push(frame)
    graph.push(None)
    reduced = graph.pull()
    assert isinstance(reduced, av.VideoFrame)
    return reduced
