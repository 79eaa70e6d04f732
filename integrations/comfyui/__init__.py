"""Mimic's nodes for ComfyUI: animate the person of a picture with the motion of a driving clip."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .animate import Decode, Draw, Fit, Sample
from .load import LoadPipeline
from .poses import DrawPoses, EstimatePoses, KeypointsToPoses, PosesToKeypoints


class MimicExtension(ComfyExtension):
    """Lists the nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadPipeline,
            EstimatePoses,
            KeypointsToPoses,
            PosesToKeypoints,
            DrawPoses,
            Fit,
            Draw,
            Sample,
            Decode,
        ]


async def comfy_entrypoint() -> MimicExtension:
    """Called by ComfyUI when it loads the pack."""
    return MimicExtension()
