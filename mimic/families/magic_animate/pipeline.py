"""MagicAnimate: a reference picture and DensePose maps in, a video out.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents; L tokens of the text, D
their width.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import torch
from torch import Tensor

from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationOutput, AnimationPipeline, Frames, StepCallback
from mimic.families.inputs import read_inputs
from mimic.families.magic_animate.control import ControlResiduals
from mimic.families.magic_animate.keys import load_released
from mimic.families.magic_animate.request import (
    RELEASED_NOISE_FRAMES,
    Conditions,
    Faults,
    Request,
    Start,
    check_parts,
    check_request,
)
from mimic.models.reference import ReferenceBank
from mimic.models.vae import encode_images
from mimic.sampling import guidance
from mimic.sampling.denoise import Predict, denoise
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.noise import Generators, draw_noise, frames_to_draw, repeat_along_time
from mimic.sampling.windows import lay_windows


class MagicAnimatePipeline(AnimationPipeline):
    """MagicAnimate (arXiv 2311.16498) on Stable Diffusion 1.5.

    Args:
        vae: `AutoencoderKL` (or one with a temporal decoder).
        unet: `MotionUNet` whose residual norms span the clip.
        appearance_encoder: `ReferenceUNet` that ends with a norm.
        controlnet: diffusers' `ControlNetModel`.
        prompt_embedding: `PromptEmbedding` of the empty sentence.
        scheduler: `DDIMScheduler`, or another of diffusers'.
    """

    # Appearance encoder and ControlNet work between two calls of the UNet and stay where they compute.
    model_cpu_offload_seq = "unet->vae"
    driven_by = "densepose"
    shows_reference_first = False
    _released_defaults = {  # noqa: RUF012
        "height": 512,
        "width": 512,
        "tile_size": 16,
        "tile_overlap": 4,
        "num_inference_steps": 25,
        "min_guidance_scale": 7.5,
        "max_guidance_scale": 7.5,
        "control_scale": 1.0,
        "decode_chunk_size": 8,
        "fusion": "average",
        "noise": "window",
        "windows": "closed",
    }

    residual_budget_mb: float = 1024
    """Memory that the ControlNet's residuals may take on the device, so that frames which windows share are
    not made twice in a step."""

    def __init__(
        self,
        vae: Any,
        unet: Any,
        appearance_encoder: Any,
        controlnet: Any,
        prompt_embedding: Any,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            appearance_encoder=appearance_encoder,
            controlnet=controlnet,
            prompt_embedding=prompt_embedding,
            scheduler=scheduler,
        )
        self.generation_defaults = {}

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        vae: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> MagicAnimatePipeline:
        """Put the released MagicAnimate weights together with the Stable Diffusion they stand on.

        From `base` come the UNet, and text encoder and tokenizer, which are asked once for the embedding of
        the empty sentence and not kept. Every key of every file has to have its place.

        Args:
            base: folder or hub id of Stable Diffusion 1.5 in diffusers' layout.
            checkpoint: the released folder: `appearance_encoder/`, `densepose_controlnet/`,
                `temporal_attention/temporal_attention.ckpt`.
            vae: folder or hub id of sd-vae-ft-mse; the base's own unless given.
            dtype: precision of all weights, float32 unless given (`torch_dtype` is the same by another name).
            variant: of the weight files, ``fp16`` for instance.
            local_files_only: do not ask the hub.

        Raises:
            SourceError: a part is not there (an `OSError`).
            WeightsError: a key is missing, surplus or of a wrong shape; all are listed (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
            vae=vae,
            dtype=dtype or torch_dtype or torch.float32,
            variant=variant,
            local_files_only=local_files_only,
        )
        return cls(**parts)

    def __call__(
        self,
        image: Any,
        image_pose: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        decode_chunk_size: int | None = None,
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 - diffusers' signature
        return_dict: bool = True,
        device: str | torch.device | None = None,
        *,
        min_guidance_scale: float | None = None,
        max_guidance_scale: float | None = None,
        control_scale: float | None = None,
        fusion: str | None = None,
        noise: str | None = None,
        windows: str | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        compat: str = "none",
    ) -> AnimationOutput | Frames:
        """Animate.

        Arguments left out take the defaults that came with the weights (`generation_defaults`), then the
        released ones.

        Args:
            image: the reference, or several for as many videos: PIL, uint8 ``H x W x 3``, or a tensor ``B x 3
                x H x W`` in [0, 1].
            image_pose: DensePose maps ``F x 3 x H x W`` in [-1, 1], RGB, one for each frame of the video;
                uint8 ``F x H x W x 3``; ``B x F x 3 x H x W``, or a list, for each video's own. Or a callable
                ``maps(frames)`` that draws the maps of the asked frames when they are needed. None animates
                without poses.
            height, width: of the video, multiples of the VAE's downscale; the maps' unless given.
            num_frames: frames of the video; all of `image_pose` unless given.
            tile_size: frames of a window; a shorter clip is one window.
            tile_overlap: frames that neighbouring windows share.
            num_inference_steps: steps.
            guidance_scale: of every frame. Not above 1: no guidance, and about half the work.
            decode_chunk_size: frames that `decode_stream` gives together.
            num_videos_per_prompt: videos of each reference.
            generator: source of all noise; a list has one for each video, which then equals a run of its own.
            latents: unit normal noise ``B x f x C x h x w``; f is the window's length (repeated) or
                `num_frames`.
            output_type: ``pil``, ``np``, ``pt`` or ``latent`` (see `AnimationOutput`).
            callback_on_step_end: ``callback(pipe, step, t, {"latents": …})`` after each step; latents in the
                dictionary that it returns are gone on with.
            callback_on_step_end_tensor_inputs: which tensors it wants.
            return_dict: an `AnimationOutput`, or else the frames alone.
            device: where to compute; the pipeline is moved there, unless offloading looks after that.
            min_guidance_scale, max_guidance_scale: in place of `guidance_scale`, of the first and the last
                frame, linear between.
            control_scale: how strongly the ControlNet acts, 1 as trained.
            fusion: ``average`` (released), ``progressive``, ``released`` (MimicMotion's) or ``none``.
            noise: ``window``, ``full`` or ``shared`` (`mimic.sampling.noise`).
            windows: ``closed``, the last is completed with the first frames (released), or ``sliding``, it is
                anchored at the end. Left out with a fusion of ``progressive`` or ``none``: ``sliding``, since
                these go by the order of windows.
            prompt_embeds, negative_prompt_embeds: text for the two halves of guidance, ``1 x L x D``, in
                place of the empty sentence's.
            compat: ``released`` repeats the released code's faults (`Faults`).

        Raises:
            ValueError: an argument does not fit the model or another argument.
        """
        inputs = read_inputs(
            image,
            image_pose,
            height=height,
            width=width,
            num_frames=num_frames,
            num_videos_per_prompt=num_videos_per_prompt,
        )
        num_frames = inputs.num_frames
        window = self.setting("tile_size", tile_size)
        if tile_overlap is None:
            tile_overlap = min(self.setting("tile_overlap"), max(window - 1, 0))
        fusion = self.setting("fusion", fusion)
        if windows is None:
            windows = "sliding" if fusion in {"progressive", "none"} else self.setting("windows")
        if guidance_scale is not None:
            min_guidance_scale = max_guidance_scale = guidance_scale
        request = Request(
            pictures=inputs.pictures,
            pose_maps=inputs.pose_maps,
            height=self.setting("height", inputs.height),
            width=self.setting("width", inputs.width),
            num_frames=num_frames,
            window=window,
            windows=lay_windows(num_frames, window, tile_overlap, windows),
            num_inference_steps=self.setting("num_inference_steps", num_inference_steps),
            guidance_scales=self._guidance_scales(min_guidance_scale, max_guidance_scale, num_frames),
            control_scale=self.setting("control_scale", control_scale),
            fusion=fusion,
            noise=self.setting("noise", noise),
            faults=Faults.of(compat),
            generator=generator,
            latents=latents,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            output_type=output_type,
            decode_chunk_size=self.setting("decode_chunk_size", decode_chunk_size),
            step_report=self._step_report(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )
        return self._answer(request, device=device, return_dict=return_dict)

    def check(self, request: Request) -> None:
        """Raise `ValueError` for parts that do not fit each other or a request that does not fit them."""
        check_parts(self)
        check_request(self, request)

    def encode(self, request: Request) -> Conditions:
        """Encode the references and take the text, once for the whole run."""
        device, dtype = self._execution_device, self.unet.dtype
        size = (request.height, request.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in request.pictures])
        latents = encode_images(self.vae, pictures.to(device) * 2 - 1) * self.vae.config.scaling_factor
        self.maybe_free_model_hooks()
        own = self.prompt_embedding()
        text, negative = (
            (own if given is None else given).to(device, dtype)
            for given in (request.prompt_embeds, request.negative_prompt_embeds)
        )
        return Conditions(latents.to(dtype), text, negative)

    def prepare(self, request: Request) -> Start:
        """Draw the noise (or take the given) and lay out the timesteps."""
        device = self._execution_device
        self.scheduler.set_timesteps(request.num_inference_steps, device=device)
        noise = request.latents
        if noise is None:
            drawn = frames_to_draw(request.num_frames, request.window, request.noise)
            if request.faults.sixteen_frames:
                drawn = RELEASED_NOISE_FRAMES
            channels, h, w = self.latent_shape(request.height, request.width)
            # The released code has time behind the channels; drawn so, a seed gives its numbers.
            noise = draw_noise(
                (len(request.pictures), channels, drawn, h, w),
                request.generator,
                device=device,
                dtype=self.unet.dtype,
            ).transpose(1, 2)
        latents = repeat_along_time(noise.to(device, torch.float32), request.num_frames)
        return Start(latents=latents * self.scheduler.init_noise_sigma, timesteps=self.scheduler.timesteps)

    def denoise(self, request: Request, conditions: Conditions, start: Start) -> Tensor:
        """Sample latents ``B x F x C x h x w``, in the UNet's precision."""
        self._num_timesteps = len(start.timesteps)
        step_arguments = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            step_arguments["generator"] = request.generator
        with self.progress_bar(total=len(start.timesteps) * len(request.windows)) as bar:
            latents = denoise(
                self._predictor(request, conditions),
                start.latents,
                scheduler=self.scheduler,
                timesteps=start.timesteps,
                windows=request.windows,
                weights=fusion_weights(request.windows, request.fusion),
                step_arguments=step_arguments,
                after_window=bar.update,
                after_step=self._after_step(request.step_report),
            )
        return latents.to(self.unet.dtype)

    def _predictor(self, request: Request, conditions: Conditions) -> Predict:
        """One video at a time, so that each gets the bytes of a run of its own, and its memory only."""
        controls = self._controls(request, conditions)
        banks: dict[str, Any] = {"t": None, "of": []}

        def see_references(t: Tensor) -> list[ReferenceBank]:
            if banks["t"] is None or not torch.equal(banks["t"], t):
                banks["t"] = t
                banks["of"] = [
                    self._see(each, t, conditions, request) for each in range(len(request.pictures))
                ]
            return banks["of"]

        def predict_video(video: int, latents_1FChw: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            added: dict[str, Any] = {}
            if controls:
                residuals = controls[video](latents_1FChw[0], t, frames)
                added = {
                    "down_block_additional_residuals": residuals.down,
                    "mid_block_additional_residual": residuals.mid,
                }

            def run_unet(text: Tensor, bank: ReferenceBank | None) -> Tensor:
                reading = None if bank is None else bank.read([True])
                return self.unet(latents_1FChw, t, text, reference=reading, return_dict=False, **added)[
                    0
                ].float()

            conditional = run_unet(conditions.text, see_references(t)[video])
            scales = request.guidance_scales[frames]
            if not guidance.is_needed(scales):
                return conditional
            return guidance.guide(run_unet(conditions.unconditional_text, None), conditional, scales)

        def predict(latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            videos = latents.to(self.unet.dtype).split(1)
            return torch.cat([predict_video(i, video, t, frames) for i, video in enumerate(videos)])

        return predict

    def _see(self, video: int, t: Tensor, conditions: Conditions, request: Request) -> ReferenceBank:
        """What the appearance encoder makes of a reference at step `t`."""
        bank = ReferenceBank("midup")
        self.appearance_encoder(conditions.reference_latents[video : video + 1], t, conditions.text, bank)
        return bank.rounded(torch.float16) if request.faults.float16_bank else bank

    def _controls(self, request: Request, conditions: Conditions) -> list[ControlResiduals]:
        """The ControlNet at work, for each video (of equal poses too: its latents are its own)."""
        if not request.pose_maps:
            return []
        budget = int(self.residual_budget_mb * 2**20 / len(request.pictures))
        return [
            ControlResiduals(
                self.controlnet,
                request.pose_maps[video % len(request.pose_maps)],
                conditions.text,
                windows=request.windows,
                scale=request.control_scale,
                budget_bytes=budget,
            )
            for video in range(len(request.pictures))
        ]
