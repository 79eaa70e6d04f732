"""Nodes for poses: estimate them, convert them from and to the keypoints of other nodes, draw them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.devices import chosen_device
from mimic.generation.drivers.base import used_frames
from pose import PoseError, PoseSequence, load_estimator
from pose.draw import draw_pose
from pose.formats.openpose import is_openpose, openpose_frames, read_openpose
from pose.tracking import check_choice

from .host import NodeProgress
from .links import CATEGORY, Keypoints, Poses, to_images, to_picture

ESTIMATORS = ["auto", "dwpose", "blazepose"]


class EstimatePoses(io.ComfyNode):
    """Estimates the poses of a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicEstimatePoses",
            display_name="Mimic: estimate poses",
            category=CATEGORY,
            description="Find body, face and hands of the person in every frame that is used.",
            inputs=[
                io.Image.Input("frames", tooltip="Frames of the driving clip."),
                io.Float.Input(
                    "fps", default=25.0, min=0.1, max=1000.0, step=0.01, tooltip="Frame rate of the clip."
                ),
                io.Combo.Input(
                    "estimator",
                    options=ESTIMATORS,
                    default="auto",
                    tooltip="auto: DWPose if its weights were downloaded (mimic download dwpose), else the "
                    "bundled BlazePose.",
                ),
                io.String.Input(
                    "person",
                    default="largest",
                    tooltip="largest, center, all, or a number from the left, starting at 0.",
                ),
                io.Int.Input(
                    "sample_stride",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Use every n-th frame; 0 chooses as the released code does: 2, and 1 below 20 "
                    "frames per second.",
                ),
                io.Float.Input("start", default=0.0, min=0.0, max=1e6, step=0.1, tooltip="In seconds."),
                io.Float.Input(
                    "end",
                    default=0.0,
                    min=0.0,
                    max=1e6,
                    step=0.1,
                    tooltip="In seconds; 0 for the clip's end.",
                ),
            ],
            outputs=[Poses.Output("poses", display_name="poses")],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor,
        fps: float,
        estimator: str = "auto",
        person: str = "largest",
        sample_stride: int = 0,
        start: float = 0.0,
        end: float = 0.0,
    ) -> io.NodeOutput:
        chosen = {"sample_stride": sample_stride or None, "start": start, "end": end or None}
        settings = build(CaseSettings, {**chosen, "person": check_choice(person)}, "settings")
        used = used_frames(len(frames), fps, settings, name="the driving clip")
        images = frames[used.slice]
        with torch.inference_mode(False):
            found = loaded_estimator(estimator).frames(
                (to_picture(image) for image in images),
                fps=fps / used.stride,
                person=settings.person,
                total=len(images),
                progress=NodeProgress(),
            )
        return io.NodeOutput(found)


class KeypointsToPoses(io.ComfyNode):
    """Converts the keypoints of ComfyUI's pose preprocessors to poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicKeypointsToPoses",
            display_name="Mimic: keypoints to poses",
            category=CATEGORY,
            description="Convert keypoints of pose preprocessors (DWPose, OpenPose) to poses.",
            inputs=[
                Keypoints.Input("keypoints"),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames per second of the keypoints; 0 takes the rate noted in them, else 25.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Of the frames in pixels, for keypoints that do not contain it; else 0.",
                    optional=True,
                ),
                io.Int.Input("width", default=0, min=0, max=16384, tooltip="Likewise.", optional=True),
            ],
            outputs=[Poses.Output("poses", display_name="poses")],
        )

    @classmethod
    def execute(cls, keypoints: Any, fps: float = 0.0, height: int = 0, width: int = 0) -> io.NodeOutput:
        frames = _plain(keypoints)
        if not frames or not is_openpose(frames):
            raise PoseError(
                "the keypoints are not frames with people; expected the POSE_KEYPOINT output of a body pose "
                "preprocessor, such as DWPose"
            )
        poses = read_openpose(
            frames, Path("the keypoints"), fps=fps or None, height=height or None, width=width or None
        )
        return io.NodeOutput(poses)


class PosesToKeypoints(io.ComfyNode):
    """Converts poses to the keypoints that other nodes draw and edit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicPosesToKeypoints",
            display_name="Mimic: poses to keypoints",
            category=CATEGORY,
            description="Convert poses to the keypoints that pose preprocessors give and other nodes edit.",
            inputs=[Poses.Input("poses")],
            outputs=[Keypoints.Output("keypoints", display_name="keypoints")],
        )

    @classmethod
    def execute(cls, poses: PoseSequence) -> io.NodeOutput:
        return io.NodeOutput(openpose_frames(poses))


class DrawPoses(io.ComfyNode):
    """Draws poses as maps, without fitting them to anybody."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicDrawPoses",
            display_name="Mimic: draw poses",
            category=CATEGORY,
            description="Draw poses as they are, for a look at them or for a ControlNet.",
            inputs=[
                Poses.Input("poses"),
                io.Int.Input(
                    "height", default=0, min=0, max=8192, tooltip="In pixels; 0 takes that of the clip."
                ),
                io.Int.Input(
                    "width", default=0, min=0, max=8192, tooltip="In pixels; 0 takes that of the clip."
                ),
                io.Combo.Input(
                    "draw",
                    options=["confidence", "binary"],
                    default="confidence",
                    tooltip="confidence scales the brightness of joints and limbs with the estimator's "
                    "confidence.",
                ),
            ],
            outputs=[io.Image.Output("maps", display_name="maps")],
        )

    @classmethod
    def execute(
        cls, poses: PoseSequence, height: int = 0, width: int = 0, draw: str = "confidence"
    ) -> io.NodeOutput:
        size = height or poses.height, width or poses.width
        progress = NodeProgress()

        def maps() -> Any:
            for number, pose in enumerate(poses.frames()):
                yield draw_pose(pose, *size, mode=draw)[0]  # type: ignore[arg-type]
                progress(number + 1, len(poses))

        return io.NodeOutput(to_images(maps(), len(poses)))


def loaded_estimator(name: str) -> Any:
    """Load an estimator onto the GPU if there is one."""
    return load_estimator(name, device="cuda" if chosen_device("auto").type == "cuda" else "cpu")


def without_reference(poses: PoseSequence) -> PoseSequence:
    """Return the driving frames of fitted poses, whose frame 0 is the reference's own pose."""
    driving = poses[1:]
    return replace(driving, metadata={**poses.metadata, "fitted": True})


def _plain(keypoints: Any) -> Any:
    """Copy keypoints as JSON would; some nodes give arrays and tuples."""

    def listed(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise PoseError(f"the keypoints contain a {type(value).__name__}; expected lists and numbers")

    return json.loads(json.dumps(keypoints, default=listed))
