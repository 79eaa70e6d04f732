"""Node that loads a pipeline."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from mimic.config.one_line import named_model
from mimic.devices import chosen_device, chosen_dtype
from mimic.families.registry import load_pipeline

from .host import make_room
from .links import CATEGORY, LoadedPipeline, Pipeline


class LoadPipeline(io.ComfyNode):
    """Loads a pipeline with all its networks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MimicLoadPipeline",
            display_name="Mimic: load pipeline",
            category=CATEGORY,
            description="Load a model with all its networks.",
            inputs=[
                io.String.Input(
                    "model",
                    default="bundled:mini",
                    tooltip="mimicmotion or animate-anyone (the released weights), a model folder, a Hugging "
                    "Face hub id, a MimicMotion checkpoint, a YAML, or bundled:mini (a demonstration).",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", "float32", "float16", "bfloat16"],
                    default="auto",
                    tooltip="auto is float16 on CUDA and float32 elsewhere.",
                ),
                io.String.Input(
                    "device", default="auto", tooltip="auto, cpu, cuda, cuda:1 or mps.", optional=True
                ),
                io.Boolean.Input(
                    "cpu_offload",
                    default=False,
                    tooltip="Keep each network on the GPU only while it is used: less memory, more time.",
                    optional=True,
                ),
            ],
            outputs=[Pipeline.Output("pipeline", display_name="pipeline")],
        )

    @classmethod
    def execute(
        cls, model: str, precision: str = "auto", device: str = "auto", cpu_offload: bool = False
    ) -> io.NodeOutput:
        # Nodes run in inference mode; parameters made in it could not be used outside.
        with torch.inference_mode(False):
            run, settings = named_model(model)
            place = chosen_device(device)
            dtype = chosen_dtype(precision, place)
            is_offloaded = cpu_offload and place.type == "cuda"
            if place.type == "cuda":
                make_room()
            pipeline = load_pipeline(
                run["base_model_path"],
                checkpoint=run.get("ckpt_path"),
                vae=run.get("vae_path"),
                dtype=dtype,
                device=torch.device("cpu") if is_offloaded else place,
            )
            if is_offloaded:
                pipeline.enable_model_cpu_offload(device=place)
        pipeline.set_progress_bar_config(disable=True)
        return io.NodeOutput(LoadedPipeline(pipeline, settings))
