"""Every scheduler of diffusers gives the family's video, or is refused by name before any work."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers import AysSchedules
from torch import Tensor

from mimic.families.registry import FAMILIES
from mimic.families.schedulers import CONTINUOUS, DISCRETE, check_scheduler, set_timesteps
from mimic.families.stable_video_diffusion import svd_scheduler
from tests.tiny import random_image, random_poses

# diffusers' schedulers hand tensors to NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SVD = svd_scheduler()
NAMES = sorted(name for name in vars(diffusers) | dict.fromkeys(dir(diffusers)) if name.endswith("Scheduler"))
STOCHASTIC = {
    "DDPMScheduler", "DPMSolverSDEScheduler", "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler",
}  # fmt: skip


def run(scheduler: Any, kind: Any, num_steps: int, **given: Any) -> Tensor:
    """Sample from a model that knows its data: normal with standard deviation 1, so that v is exact."""
    set_timesteps(scheduler, kind, num_steps, **given)
    torch.manual_seed(0)
    noise = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    x = noise * scheduler.init_noise_sigma
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        sigma = torch.exp(4 * t) if kind == "continuous" else ((1 - alphas[int(t)]) / alphas[int(t)]) ** 0.5
        a = 1 / (1 + sigma**2) ** 0.5
        # x_t = a x0 + a sigma eps with x0 ~ N(1, 0.25): E[x0 | x_t], then v = a eps - a sigma x0.
        spread = 0.25 * a**2 + (a * sigma) ** 2
        x0 = 1 + 0.25 * a / spread * (model_input - a)
        eps = (model_input - a * x0) / (a * sigma)
        x = scheduler.step(a * eps - a * sigma * x0, t, x, return_dict=False)[0]
    return x


def made(name: str, config: Any, **changes: Any) -> Any:
    kind = getattr(diffusers, name)
    return kind.from_config(config, **({"sigma_data": 1.0} if name.startswith("EDM") else {}), **changes)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_schedulers_agree_and_follow_svds_noise_levels(name: str) -> None:
    scheduler = made(name, SVD.config)
    check_scheduler(scheduler, "continuous")
    found = run(scheduler, "continuous", 60)
    assert float((found - run(svd_scheduler(), "continuous", 400)).abs().mean()) < 0.03
    assert float(scheduler.sigmas[0]) == pytest.approx(700, rel=1e-4)
    assert torch.allclose(scheduler.timesteps, 0.25 * scheduler.sigmas[:-1].log(), atol=1e-5)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_align_your_steps_is_taken_by_all_of_them(name: str) -> None:
    given = AysSchedules["StableDiffusionVideoSigmas"]
    scheduler = made(name, SVD.config)
    for sigmas in (given, given[:-1]):
        set_timesteps(scheduler, "continuous", 25, sigmas=sigmas)
        assert len(scheduler.timesteps) == 10
        torch.testing.assert_close(scheduler.sigmas, torch.tensor(given))


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_schedulers_run(name: str) -> None:
    if name == "DPMSolverSDEScheduler":
        pytest.importorskip("torchsde")
    config = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, steps_offset=1, set_alpha_to_one=False,
    ).config  # fmt: skip
    scheduler = made(name, config)
    check_scheduler(scheduler, "discrete")
    found = run(scheduler, "discrete", 40)
    assert float(found.mean()) == pytest.approx(1, abs=0.25)
    if name not in STOCHASTIC:
        expected = run(diffusers.DDIMScheduler.from_config(config), "discrete", 200)
        assert float((found - expected).abs().mean()) < 0.08


def test_all_others_are_refused_with_those_that_work() -> None:
    for kind, known in (("continuous", CONTINUOUS), ("discrete", DISCRETE)):
        refused = []
        for name in NAMES:
            if name in known:
                continue
            try:
                scheduler = getattr(diffusers, name)()
            except (TypeError, ImportError, ValueError):
                continue
            refused.append(name)
            with pytest.raises(ValueError, match=f"{name} cannot run on .* {kind} timesteps; use one of"):
                check_scheduler(scheduler, kind)  # type: ignore[arg-type]
        assert {"FlowMatchEulerDiscreteScheduler", "ScoreSdeVeScheduler"} <= set(refused)


@pytest.mark.parametrize(
    ("kind", "name", "changes", "message"),
    [
        ("continuous", "EulerDiscreteScheduler", {"timestep_type": "discrete"}, "timestep_type discrete"),
        ("continuous", "EulerDiscreteScheduler", {"prediction_type": "epsilon"}, "predicts v"),
        ("continuous", "EDMEulerScheduler", {"sigma_data": 0.5}, "sigma_data 0.5.*sigma_data=1.0"),
        ("continuous", "DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("discrete", "DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "flow matching"),
        ("discrete", "EulerDiscreteScheduler", {"timestep_type": "continuous"}, "takes discrete timesteps"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    kind: Any, name: str, changes: dict[str, Any], message: str
) -> None:
    scheduler = getattr(diffusers, name).from_config(SVD.config, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        check_scheduler(scheduler, kind)
    assert "\n" not in str(caught.value)


def test_schedulers_named_as_taking_sigmas_take_them() -> None:
    config, sigmas = diffusers.DDIMScheduler().config, [10.0, 1.0]
    with pytest.raises(ValueError, match="DDIMScheduler does not take them; use one of") as told:
        set_timesteps(diffusers.DDIMScheduler(), "discrete", 4, sigmas=sigmas)
    for name in str(told.value).partition("use one of ")[2].partition(", or num")[0].split(", "):
        scheduler = getattr(diffusers, name).from_config(config)
        set_timesteps(scheduler, "discrete", 4, sigmas=sigmas)
        assert len(scheduler.timesteps) == 2
    unipc = diffusers.UniPCMultistepScheduler.from_config(config)
    with pytest.raises(ValueError, match="UniPCMultistepScheduler does not take them; use one of Euler"):
        set_timesteps(unipc, "discrete", 4, sigmas=sigmas)


def test_a_users_own_scheduler_is_accepted() -> None:
    class Own(diffusers.DDIMScheduler):
        """Another step, perhaps."""

    check_scheduler(Own(), "discrete")
    with pytest.raises(ValueError, match="Own cannot run"):
        check_scheduler(object_named("Own"), "discrete")


def object_named(name: str) -> Any:
    return type(name, (), {})()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_pipelines_take_steps_by_value_and_refuse_before_any_work(family: str) -> None:
    pipe: Any = FAMILIES[family].tiny_pipeline(height=16, width=24, seed=0)
    call = {"image": random_image(16, 24), "image_pose": random_poses(3, 16, 24), "output_type": "latent"}
    own = pipe.scheduler
    if pipe.timestep_type == "continuous":
        pipe(**call, sigmas=[500.0, 20.0, 1.0])
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(own.config)
        assert pipe.num_timesteps == 3
        result = pipe(**call, num_inference_steps=3, guidance_interval=(0.1, 30.0), max_guidance_scale=2.0)
    else:
        with pytest.raises(ValueError, match="sigmas are given, and DDIMScheduler does not take them; use"):
            pipe(**call, sigmas=[14.0, 1.0])
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(own.config)
        result = pipe(**call, timesteps=[900, 500, 100])
    assert pipe.num_timesteps == 3
    assert result.frames.isfinite().all()
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    hook = pipe.vae.register_forward_pre_hook(lambda *_: pytest.fail("work began before the check"))
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler cannot run"):
        pipe(**call)
    hook.remove()


@pytest.mark.parametrize("family", ["animate_anyone", "magic_animate"])
@pytest.mark.parametrize("change", [{"prediction_type": "sample"}, {"beta_schedule": "squaredcos_cap_v2"}])
def test_a_scheduler_of_another_noise_is_refused(family: str, change: dict[str, Any]) -> None:
    pipe: Any = FAMILIES[family].tiny_pipeline(height=16, width=24, seed=0)
    own = pipe.scheduler.config
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(own, **change)
    again = type(pipe)(**pipe.components)
    for each in (pipe, again):
        with pytest.raises(ValueError, match=f"has {next(iter(change))} .*was trained with"):
            each(random_image(16, 24), random_poses(3, 16, 24), num_inference_steps=1)
