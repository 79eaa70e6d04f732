"""Nodes for the stages of a video: fit, draw, sample, decode. They call what `mimic animate` calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from numpy.typing import NDArray
from torch import Tensor

from mimic.config import CaseSettings
from mimic.config.inference import merged
from mimic.config.loading import build
from mimic.config.sampling import ControlSettings, SVDSettings
from mimic.generation.animate import case_plan, decoded_frames, sample_latents
from mimic.generation.background import ReferenceBackground, check_background
from mimic.generation.drivers import DriverTools, load_driver
from mimic.generation.reference import see_reference
from mimic.ui.studio import Fit as ShownFit
from pose import PoseError, PoseSequence

from .host import NodePreview, NodeProgress
from .links import (
    CATEGORY,
    Fitted,
    FittedMotion,
    Latents,
    LoadedPipeline,
    Pipeline,
    Poses,
    Sampled,
    read_settings,
    to_images,
    to_picture,
)
from .poses import ESTIMATORS, loaded_estimator, without_reference

_OF_SAMPLING = {
    "seed",
    *SVDSettings.model_fields,
    *ControlSettings.model_fields,
    *(name for name, ours in CaseSettings.OTHER_NAMES.items() if ours in SVDSettings.model_fields),
}


class Fit(io.ComfyNode):
    """Fits a motion to the person of a picture, and reports how well it fits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicFit",
            display_name="Mimic: fit motion to picture",
            category=CATEGORY,
            description="Fit poses to the body of the person in the picture; the report says what is poor.",
            is_output_node=True,
            inputs=[
                Pipeline.Input("pipeline"),
                io.Image.Input(
                    "reference", tooltip="Picture of the person to animate; the first of a batch."
                ),
                Poses.Input("poses", tooltip="Poses of the driving clip."),
                io.Combo.Input(
                    "align",
                    options=["released", "robust", "limbs", "none"],
                    default="limbs",
                    tooltip="released: as in the released code; robust: also for partly visible bodies; "
                    "limbs: like robust, with the length of each limb; none: use the poses as they are.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Short side of the result in pixels; 0 takes the model's own size.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.1,
                    max=10.0,
                    step=0.01,
                    tooltip="Correction: size of the person.",
                ),
                io.Float.Input(
                    "right",
                    default=0.0,
                    min=-2.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Correction: move to the right, in widths of the picture.",
                ),
                io.Float.Input(
                    "down",
                    default=0.0,
                    min=-2.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Correction: move down, in heights of the picture.",
                ),
                io.Float.Input(
                    "rotate", default=0.0, min=-180.0, max=180.0, step=0.5, tooltip="Correction: degrees."
                ),
                io.Combo.Input(
                    "estimator",
                    options=ESTIMATORS,
                    default="auto",
                    tooltip="Estimator for the reference picture.",
                    optional=True,
                ),
                io.String.Input(
                    "settings",
                    default="",
                    multiline=True,
                    tooltip="More settings of Mimic, one `key: value` on each line, such as `missing: hold`.",
                    optional=True,
                ),
            ],
            outputs=[
                FittedMotion.Output("fit", display_name="fit"),
                Poses.Output("fitted_poses", display_name="fitted poses", tooltip="Of the driving frames."),
                io.String.Output("report", display_name="report"),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of the result."),
            ],
        )

    @classmethod
    def execute(
        cls,
        pipeline: LoadedPipeline,
        reference: Tensor,
        poses: PoseSequence,
        align: str = "limbs",
        resolution: int = 0,
        scale: float = 1.0,
        right: float = 0.0,
        down: float = 0.0,
        rotate: float = 0.0,
        estimator: str = "auto",
        settings: str = "",
    ) -> io.NodeOutput:
        widgets: dict[str, Any] = {
            "align": align,
            "sample_stride": 1,
            "start": 0,
            "end": None,
            "person": "all" if poses.metadata.get("person") == "all" else "largest",
        }
        if resolution:
            widgets["resolution"] = resolution
        if (scale, right, down, rotate) != (1.0, 0.0, 0.0, 0.0):
            widgets["adjust"] = {"scale": scale, "offset": [right, down], "rotate": rotate}
        stored = {key: value for key, value in pipeline.settings.items() if key not in _OF_THE_CLIP}
        given = merged(stored, widgets, read_settings(settings))
        case = build(CaseSettings, given, "settings")
        model = pipeline.pipeline
        driver = load_driver(model.driven_by, DriverTools(lambda: loaded_estimator(estimator)))
        if not driver.takes_poses:
            raise PoseError(
                f"this model is driven by {model.driven_by} maps and takes no poses; load one that is driven "
                "by skeletons, or use `mimic animate`"
            )
        check_background(case, driver)
        with torch.inference_mode(False):
            picture = to_picture(reference[0])
            seen = see_reference(picture, model, case, find_pose=driver.reference_pose)
            moves = driver.read(poses, seen, model, case, progress=NodeProgress())
            case_plan(model, case, moves.num_frames, seen.height, seen.width)
        fitted = Fitted(pipeline, seen, moves, given)
        assert moves.poses is not None
        report = shown(fitted).report()
        fps = float(moves.output_fps(case))
        return io.NodeOutput(fitted, without_reference(moves.poses), report, fps, ui=ui.PreviewText(report))


class Draw(io.ComfyNode):
    """Draws the maps of a fit, and the skeleton over the reference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicDrawFit",
            display_name="Mimic: draw pose maps",
            category=CATEGORY,
            description="Draw the pose maps that the model will see, and the skeleton over the picture.",
            inputs=[FittedMotion.Input("fit")],
            outputs=[
                io.Image.Output("maps", display_name="maps"),
                io.Image.Output("overlay", display_name="overlay", tooltip="The skeleton over the picture."),
            ],
        )

    @classmethod
    def execute(cls, fit: Fitted) -> io.NodeOutput:
        maps, over, count = fit.driving.maps, shown(fit), fit.driving.num_frames
        progress = NodeProgress()
        drawn = to_images(_counted((maps.draw(i + 1) for i in range(count)), progress, 2 * count), count)
        overlays = (over.overlay(i) for i in range(count))
        return io.NodeOutput(drawn, to_images(_counted(overlays, progress, 2 * count, count), count))


class Sample(io.ComfyNode):
    """Samples the latents of all frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicSample",
            display_name="Mimic: sample",
            category=CATEGORY,
            description="Denoise the frames, window by window.",
            inputs=[
                FittedMotion.Input("fit"),
                io.Int.Input("seed", default=42, min=0, max=2**63 - 1, control_after_generate=True),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Denoising steps; 0 takes the model's number.",
                ),
                io.Float.Input(
                    "guidance_scale",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="0 takes the model's scale, 1 disables guidance.",
                ),
                io.Combo.Input(
                    "preset",
                    options=["model", "exact", "balanced", "fast"],
                    default="model",
                    tooltip="model leaves the choice to the model's settings.",
                ),
                io.Boolean.Input("preview", default=True, tooltip="Show the middle frame after each step."),
                io.String.Input(
                    "settings",
                    default="",
                    multiline=True,
                    tooltip="More settings of sampling, one `key: value` on each line, such as "
                    "`fusion: progressive`.",
                    optional=True,
                ),
            ],
            outputs=[Latents.Output("latents", display_name="latents")],
        )

    @classmethod
    def execute(
        cls,
        fit: Fitted,
        seed: int,
        steps: int = 0,
        guidance_scale: float = 0.0,
        preset: str = "model",
        preview: bool = True,
        settings: str = "",
    ) -> io.NodeOutput:
        widgets: dict[str, Any] = {"seed": seed}
        if steps:
            widgets["num_inference_steps"] = steps
        if guidance_scale:
            widgets["guidance_scale"] = guidance_scale
        if preset != "model":
            widgets["preset"] = preset
        case = build(
            CaseSettings, merged(fit.settings, widgets, _of_sampling(read_settings(settings))), "settings"
        )
        model, seen, moves = fit.loaded.pipeline, fit.reference, fit.driving
        progress = NodeProgress()
        with torch.inference_mode(False):
            plan = case_plan(model, case, moves.num_frames, seen.height, seen.width)
            shows = NodePreview(model, seen.picture, progress) if preview else None
            latents = sample_latents(model, plan, seen, moves.maps, progress=progress, preview=shows)
        return io.NodeOutput(Sampled(fit, latents, plan, case))


class Decode(io.ComfyNode):
    """Decodes latents to frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicDecode",
            display_name="Mimic: decode",
            category=CATEGORY,
            description="Decode latents to frames, chunk by chunk.",
            inputs=[Latents.Input("latents")],
            outputs=[
                io.Image.Output("frames", display_name="frames"),
                io.Float.Output("fps", display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, latents: Sampled) -> io.NodeOutput:
        fit, case = latents.fitted, latents.settings
        moves = fit.driving
        with torch.inference_mode(False):
            frames = decoded_frames(fit.loaded.pipeline, latents.plan, latents.latents, case)
            if case.background == "reference" and moves.poses is not None:
                frames = ReferenceBackground(fit.reference.picture, moves.poses).lay_over(frames)
            images = to_images(_counted(frames, NodeProgress(), moves.num_frames), moves.num_frames)
        return io.NodeOutput(images, float(moves.output_fps(case)))


_OF_THE_CLIP = {"start", "end", "sample_stride", "max_frames", "person"}
"""Settings that were applied when the poses were estimated."""


def shown(fit: Fitted) -> ShownFit:
    """Return the fit as the studio shows it, with its report in words."""
    moves = fit.driving
    assert moves.poses is not None
    sentences = tuple((moves.verdict or {}).get("sentences", ()))
    return ShownFit(fit.reference.picture, moves.poses, sentences, moves.facts)


def _of_sampling(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that all settings take effect when sampling.

    Raises:
        ValueError: one is used by an earlier node.
    """
    others = sorted(key for key in settings if key in CaseSettings.model_fields and key not in _OF_SAMPLING)
    if others:
        raise ValueError(
            f"{', '.join(others)} cannot be set when sampling; give it in the settings of `Mimic: fit motion "
            "to picture`"
        )
    return settings


def _counted(
    pictures: Iterable[NDArray[np.uint8]], progress: NodeProgress, total: int, first: int = 0
) -> Iterator[NDArray[np.uint8]]:
    for number, picture in enumerate(pictures, start=first + 1):
        yield picture
        progress(number, total)
