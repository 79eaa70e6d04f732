"""What the pipeline promises beyond the released code, on random tiny models."""

import functools
import json

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from mimic import MimicMotionPipeline
from tests.tiny import quiet, random_image, random_pipeline, random_poses

HEIGHT, WIDTH = 16, 24
SHORT = {"num_inference_steps": 2, "tile_size": 4, "tile_overlap": 2, "decode_chunk_size": 3}


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(scope="module")
def image():
    return random_image(HEIGHT, WIDTH)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def latents_of(pipe, image, num_frames=6, poses_seed=0, **arguments):
    arguments = {
        "num_frames": num_frames,
        "generator": seeded(),
        "output_type": "latent",
        **SHORT,
        **arguments,
    }
    arguments.setdefault("image_pose", random_poses(num_frames, HEIGHT, WIDTH, poses_seed))
    return pipe(image, **arguments).frames


def count_calls(module):
    calls = []
    hook = module.register_forward_hook(lambda *_: calls.append(1) and None)
    return calls, hook


def test_the_same_seed_gives_the_same_bytes(pipe, image):
    assert torch.equal(latents_of(pipe, image), latents_of(pipe, image))
    assert not torch.equal(latents_of(pipe, image), latents_of(pipe, image, generator=seeded(1)))


@pytest.mark.slow  # the contract of all families has it at other sizes
def test_poses_and_picture_make_a_difference(pipe, image):
    plain = latents_of(pipe, image)
    assert not torch.allclose(plain, latents_of(pipe, image, poses_seed=1))
    assert not torch.allclose(plain, latents_of(pipe, random_image(HEIGHT, WIDTH, seed=1)))
    assert not torch.allclose(plain, latents_of(pipe, image, image_pose=None, height=HEIGHT, width=WIDTH))


@pytest.mark.slow  # the contract of all families has it at other sizes
def test_frames_of_every_output_type_are_the_same_frames(pipe, image):
    outputs = {
        kind: pipe(image, random_poses(5, HEIGHT, WIDTH), generator=seeded(), output_type=kind, **SHORT)
        for kind in ("pt", "np", "pil", "latent")
    }
    frames = outputs["pt"].frames
    assert frames.shape == (1, 5, 3, HEIGHT, WIDTH)
    assert frames.dtype == torch.float32
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert np.array_equal(outputs["np"].frames, frames.permute(0, 1, 3, 4, 2).numpy())
    pictures = outputs["pil"].frames
    assert [len(video) for video in pictures] == [5]
    assert isinstance(pictures[0][0], PIL.Image.Image)
    assert np.array_equal(
        np.array(pictures[0][2]), (frames[0, 2] * 255).round().byte().permute(1, 2, 0).numpy()
    )
    assert outputs["latent"].frames.shape == (1, 5, 4, HEIGHT // 4, WIDTH // 4)
    streamed = list(pipe.decode_stream(outputs["latent"].frames, SHORT["decode_chunk_size"]))
    assert [len(part) for part in streamed] == [3, 2]
    assert torch.equal(torch.cat(streamed), frames[0])


def test_the_overlap_of_chunks_is_that_of_call_and_stream(pipe, image):
    poses = random_poses(5, HEIGHT, WIDTH)

    def run(**settings):
        return pipe(image, poses, generator=torch.Generator().manual_seed(0), **SHORT, **settings).frames

    latents, made = run(output_type="latent"), run(output_type="pt", decode_overlap=1)
    assert torch.equal(made[0], torch.cat(list(pipe.decode_stream(latents, 3, overlap=1))))
    assert not torch.equal(made[0], torch.cat(list(pipe.decode_stream(latents, 3))))


def test_without_return_dict_the_frames_come_alone(pipe, image):
    frames = pipe(image, random_poses(3, HEIGHT, WIDTH), output_type="np", return_dict=False, **SHORT)
    assert frames.shape == (1, 3, HEIGHT, WIDTH, 3)


def test_a_batch_equals_the_single_runs(pipe):
    images = [random_image(HEIGHT, WIDTH, seed) for seed in (1, 2)]
    poses = torch.stack([random_poses(6, HEIGHT, WIDTH, seed) for seed in (3, 4)])
    strength = {"noise_aug_strength": 0.1}
    together = latents_of(pipe, images, image_pose=poses, generator=[seeded(5), seeded(6)], **strength)
    for item, (image, pose, seed) in enumerate(zip(images, poses, (5, 6))):
        alone = latents_of(pipe, image, image_pose=pose, generator=seeded(seed), **strength)
        assert torch.equal(together[item : item + 1], alone)


def test_several_images_share_poses_and_several_videos_share_an_image(pipe, image):
    other = random_image(20, 20, seed=1)
    both = latents_of(pipe, [image, other], generator=[seeded(1), seeded(2)])
    assert torch.equal(both[:1], latents_of(pipe, image, generator=seeded(1)))
    assert torch.equal(both[1:], latents_of(pipe, other, generator=seeded(2)))
    twice = latents_of(pipe, image, generator=[seeded(1), seeded(2)], num_videos_per_prompt=2)
    assert len(twice) == 2
    assert torch.equal(twice[:1], both[:1])


def test_decoding_a_batch_does_not_mix_its_videos(pipe):
    images = [random_image(HEIGHT, WIDTH, seed) for seed in (1, 2)]
    frames = pipe(
        images, random_poses(4, HEIGHT, WIDTH), generator=seeded(), output_type="pt", **SHORT
    ).frames
    latents = pipe(
        images, random_poses(4, HEIGHT, WIDTH), generator=seeded(), output_type="latent", **SHORT
    ).frames
    for video, own in zip(frames, latents):
        assert torch.equal(video, torch.cat(list(pipe.decode_stream(own, 3))))


def test_a_clip_shorter_than_a_tile_shrinks_the_tile(pipe, image):
    short = latents_of(pipe, image, num_frames=3, tile_size=16, tile_overlap=6)
    assert torch.equal(short, latents_of(pipe, image, num_frames=3, tile_size=3, tile_overlap=1))
    noise = torch.randn(1, 16, 4, HEIGHT // 4, WIDTH // 4, generator=seeded())
    given = latents_of(pipe, image, num_frames=3, tile_size=16, latents=noise)
    assert torch.equal(given, latents_of(pipe, image, num_frames=3, tile_size=16, latents=noise[:, :3]))


@pytest.mark.parametrize("num_frames", [1, 12, 13])
def test_tiles_without_overlap_leave_no_frame_out(pipe, image, num_frames):
    latents = latents_of(pipe, image, num_frames=num_frames, tile_size=6, tile_overlap=0)
    assert latents.shape[1] == num_frames
    assert torch.isfinite(latents).all()


def test_an_overlap_left_out_fits_the_tile(pipe, image):
    assert torch.isfinite(latents_of(pipe, image, num_frames=5, tile_size=3, tile_overlap=None)).all()


@pytest.mark.parametrize("fusion", ["released", "progressive", "average", "none"])
def test_with_one_window_all_fusions_are_no_fusion(pipe, image, fusion):
    one = latents_of(pipe, image, num_frames=4, fusion=fusion)
    assert torch.equal(one, latents_of(pipe, image, num_frames=4))


def test_with_several_windows_fusions_differ(pipe, image):
    results = [
        latents_of(pipe, image, 7, tile_overlap=3, fusion=mode)
        for mode in ("released", "progressive", "average", "none")
    ]
    for i, result in enumerate(results):
        assert torch.isfinite(result).all()
        assert all(not torch.equal(result, other) for other in results[:i])


def test_guidance_up_to_one_needs_one_pass_only(pipe, image):
    calls, hook = count_calls(pipe.unet)
    try:
        off = latents_of(pipe, image, num_frames=4, max_guidance_scale=1.0)
        assert len(calls) == 2
        assert torch.equal(
            off, latents_of(pipe, image, num_frames=4, min_guidance_scale=0.0, max_guidance_scale=1.0)
        )
        assert len(calls) == 4
        nearly = latents_of(pipe, image, num_frames=4, min_guidance_scale=1.000001)
        assert len(calls) == 6, "both branches in one call"
        torch.testing.assert_close(off, nearly, atol=1e-3, rtol=1e-3)
    finally:
        hook.remove()


def test_a_guidance_ramp_may_end_at_one(pipe, image):
    down = latents_of(pipe, image, num_frames=4, min_guidance_scale=3.0, max_guidance_scale=1.0)
    assert torch.isfinite(down).all()
    assert not torch.equal(down, latents_of(pipe, image, num_frames=4, max_guidance_scale=3.0))


def test_guidance_may_be_limited_to_noise_levels(pipe, image):
    calls, hook = count_calls(pipe.unet)
    try:
        guided = functools.partial(latents_of, pipe, image, num_frames=4, batch_guidance=False)
        inside = guided(guidance_interval=(0.0, 1e9))
        assert torch.equal(inside, guided())
        assert len(calls) == 8
        half = guided(guidance_interval=(0.0, 1.0))  # sigmas are 700 and 0.002
        assert len(calls) == 11
        assert not torch.equal(half, inside)
    finally:
        hook.remove()


def test_given_noise_is_one_tile_or_the_full_length(pipe, image):
    tile = torch.randn(1, 4, 4, HEIGHT // 4, WIDTH // 4, generator=seeded())
    repeated = tile[:, [0, 1, 2, 3, 0, 1]]
    assert torch.equal(latents_of(pipe, image, latents=tile), latents_of(pipe, image, latents=repeated))


@pytest.mark.parametrize("noise", ["full", "shared"])
def test_other_lengths_of_noise_can_be_drawn(pipe, image, noise):
    latents = latents_of(pipe, image, noise=noise)
    assert torch.equal(latents, latents_of(pipe, image, noise=noise))
    assert not torch.equal(latents, latents_of(pipe, image))


def test_poses_drawn_when_needed_are_the_same_poses(pipe, image):
    poses = random_poses(6, HEIGHT, WIDTH)
    asked = []

    def maps(frames):
        asked.append(list(frames))
        return poses[frames]

    assert torch.equal(latents_of(pipe, image, image_pose=maps), latents_of(pipe, image, image_pose=poses))
    assert max(map(len, asked)) <= SHORT["tile_size"]


def test_uint8_pose_maps_as_drawn_are_taken(pipe, image):
    drawn = np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    as_tensor = torch.from_numpy(drawn).permute(0, 3, 1, 2) / 127.5 - 1
    from_uint8 = latents_of(pipe, image, 5, image_pose=drawn)
    assert torch.equal(from_uint8, latents_of(pipe, image, 5, image_pose=as_tensor))


def test_the_feature_budget_saves_work_and_changes_no_byte(image):
    pipe = random_pipeline()
    results = []
    calls, hook = count_calls(pipe.pose_net)
    one_window_mb = 4 * 32 * (HEIGHT // 4) * (WIDTH // 4) * 4 / 2**20
    for budget_mb in (0, 1.5 * one_window_mb, 512):
        pipe.pose_feature_budget_mb = budget_mb
        calls.clear()
        results.append((latents_of(pipe, image, 7, num_inference_steps=3), len(calls)))
    hook.remove()
    nothing, some, everything = results
    assert torch.equal(nothing[0], some[0])
    assert torch.equal(nothing[0], everything[0])
    assert [num_calls for _, num_calls in results] == [9, 7, 3]  # three windows, three steps


def test_a_single_step_keeps_no_features(image):
    pipe = random_pipeline()
    kept: list[int] = []
    features = pipe.predict_window

    def watched(conditions, *rest):
        predicted = features(conditions, *rest)
        kept.append(conditions.pose_features.kept_bytes)
        return predicted

    pipe.predict_window = watched
    latents_of(pipe, image, 7, num_inference_steps=1)
    assert set(kept) == {0}
    latents_of(pipe, image, 7, num_inference_steps=2)
    assert kept[-1] > 0


def test_constant_things_are_computed_once(image):
    pipe = random_pipeline()
    embedded, first = count_calls(pipe.image_encoder)
    encoded, second = count_calls(pipe.vae.encoder)
    latents_of(pipe, image, num_inference_steps=3)
    first.remove()
    second.remove()
    assert (len(embedded), len(encoded)) == (1, 1)


def test_callbacks_see_change_and_stop(pipe, image):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, float(timestep), pipe.num_timesteps, tensors["latents"].shape))
        if step == 1:
            pipe._interrupt = True
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 0 else {}

    changed = latents_of(pipe, image, num_inference_steps=4, callback_on_step_end=callback)
    assert [entry[0] for entry in seen] == [0, 1]
    assert seen[0][2:] == (4, (1, 6, 4, 4, 6))
    assert not torch.equal(changed, latents_of(pipe, image, num_inference_steps=4))
    assert not pipe.interrupt


def test_the_progress_bar_counts_windows_and_can_be_configured(image, capsys):
    pipe = random_pipeline()
    pipe.set_progress_bar_config(desc="denoising", disable=False)
    latents_of(pipe, image)
    assert "denoising" in (shown := capsys.readouterr().err)
    assert "4/4" in shown  # two windows, two steps
    quiet(pipe)
    latents_of(pipe, image)
    assert capsys.readouterr().err == ""


def test_other_schedulers_work(image):
    pipe = random_pipeline()
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    assert torch.isfinite(latents_of(pipe, image)).all()


@pytest.mark.parametrize("vae_blocks", [2, 4])
def test_any_downscale_of_the_vae_works(image, vae_blocks):
    pipe = random_pipeline(vae_blocks=vae_blocks)
    assert pipe.pixels_per_latent == 2 ** (vae_blocks - 1)
    frames = pipe(image, random_poses(3, HEIGHT, WIDTH), output_type="pt", **SHORT).frames
    assert frames.shape == (1, 3, 3, HEIGHT, WIDTH)


def test_half_precision_works_on_the_cpu_and_leaves_the_default_dtype(image):
    pipe = random_pipeline(dtype=torch.float16)
    frames = pipe(image, random_poses(6, HEIGHT, WIDTH), output_type="pt", generator=seeded(), **SHORT).frames
    assert torch.isfinite(frames).all()
    assert torch.get_default_dtype() == torch.float32


def test_saved_and_loaded_it_gives_the_same_bytes(image, tmp_path):
    pipe = random_pipeline()
    pipe.generation_defaults = {
        "tile_size": 4,
        "tile_overlap": 2,
        "num_inference_steps": 2,
        "warning": "tiny – só",
    }
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["mimic", "PoseConditionedSVDUNet"]
    assert index["pose_net"] == ["mimic", "PoseNet"]
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    loaded = quiet(MimicMotionPipeline.from_pretrained(tmp_path))
    assert loaded.generation_defaults == pipe.generation_defaults
    assert torch.equal(latents_of(loaded, image), latents_of(pipe, image))
    poses = random_poses(6, HEIGHT, WIDTH)
    by_default = loaded(image, poses, generator=seeded(), output_type="latent").frames
    assert torch.equal(by_default, latents_of(pipe, image))
    loaded.unet = pipe.unet  # components may be exchanged and saved again
    loaded.save_pretrained(tmp_path / "again")
    assert (
        MimicMotionPipeline.from_pretrained(tmp_path / "again").generation_defaults
        == pipe.generation_defaults
    )


def test_it_loads_in_the_precision_asked_for(tmp_path):
    random_pipeline(dtype=torch.float16).save_pretrained(tmp_path)
    for options, dtype in (({}, torch.float32), ({"torch_dtype": torch.float16}, torch.float16)):
        loaded = MimicMotionPipeline.from_pretrained(tmp_path, **options)
        assert {module.dtype for module in (loaded.unet, loaded.vae, loaded.pose_net)} == {dtype}
        assert loaded.image_encoder.dtype == dtype


def test_model_offload_hooks_run_in_order_and_change_nothing(image):
    pipe = random_pipeline()
    expected = pipe(
        image, random_poses(6, HEIGHT, WIDTH), output_type="pt", generator=seeded(), **SHORT
    ).frames
    pipe.enable_model_cpu_offload(device="cpu")
    order = []
    for name in ("image_encoder", "unet", "pose_net"):
        pipe.components[name].register_forward_pre_hook(lambda *_, name=name: order.append(name) and None)
    for _ in range(2):  # the hooks are there again after a run
        order.clear()
        frames = pipe(
            image, random_poses(6, HEIGHT, WIDTH), output_type="pt", generator=seeded(), **SHORT
        ).frames
        assert torch.equal(frames, expected)
        assert order[0] == "image_encoder"
        assert set(order[1:]) == {"unet", "pose_net"}
        assert all(hasattr(pipe.components[name], "_hf_hook") for name in ("unet", "vae", "image_encoder"))
    latents = pipe(
        image, random_poses(6, HEIGHT, WIDTH), output_type="latent", generator=seeded(), **SHORT
    ).frames
    assert torch.equal(torch.cat(list(pipe.decode_stream(latents, 3))), expected[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("offload", [False, True])
def test_cuda_gives_what_the_cpu_gives(image, offload):
    expected = latents_of(random_pipeline(), image)
    pipe = random_pipeline()
    if offload:
        pipe.enable_model_cpu_offload()
        latents = latents_of(pipe, image)
        assert pipe.unet.device.type == "cpu"
    else:
        latents = latents_of(pipe, image, device="cuda")
        assert latents.device.type == "cuda"
    torch.testing.assert_close(latents.cpu(), expected, atol=5e-2, rtol=5e-2)  # TF32 in convolutions
    frames = torch.cat(list(pipe.decode_stream(latents, 3)))
    assert frames.device.type == "cpu"
