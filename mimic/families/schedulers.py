"""Which of diffusers' noise schedulers a family can use, and how their timesteps are set.

Stable Diffusion is conditioned on discrete timesteps (0 … 999), Stable Video Diffusion on continuous ones,
``0.25 ln sigma`` (Karras et al. 2022, arXiv 2206.00364, section 5). A scheduler that passes the other kind to
the network, or follows another noise schedule, would return noise without an error.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

TimestepType = Literal["discrete", "continuous"]

DISCRETE = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler", "LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "TCDScheduler",
    "UniPCMultistepScheduler",
)  # fmt: skip
"""Schedulers of diffusers that run on discrete timesteps."""
CONTINUOUS = (
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""Schedulers of diffusers that can run on continuous timesteps, see `set_timesteps`."""

_SIGMAS_OF_FLOW_ALONE = frozenset({"UniPCMultistepScheduler"})
"""Schedulers whose `set_timesteps` has `sigmas`, and refuses them unless it is set to flow matching."""
_SVD_SIGMAS = {"sigma_min": 0.002, "sigma_max": 700.0}
_RHO = 7.0  # of arXiv 2206.00364, equation 5
_TRAINED_BY = ("prediction_type", "beta_schedule", "beta_start", "beta_end")
_OTHER_SPACINGS = ("use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")

_STARTING = threading.Lock()
_IN_USE: set[int] = set()  # ids of schedulers


@contextlib.contextmanager
def used_by_one_run(scheduler: Any) -> Iterator[None]:
    """Reserve a scheduler, which counts the steps of one run, for the time of the context.

    Raises:
        RuntimeError: another run uses it, in another thread or around this call.
    """
    with _STARTING:
        if id(scheduler) in _IN_USE:
            raise RuntimeError(
                "the pipeline is generating already, in another thread or in the run whose callback calls "
                "it, and its scheduler counts the steps of one run; use a pipeline with another scheduler: "
                "pipe.from_pipe(pipe, scheduler=copy.deepcopy(pipe.scheduler))."
            )
        _IN_USE.add(id(scheduler))
    try:
        yield
    finally:
        _IN_USE.discard(id(scheduler))


def check_scheduler(scheduler: Any, kind: TimestepType) -> None:
    """Check that a scheduler can run on timesteps of this kind.

    Raises:
        ValueError: it cannot; the message names those that can.
    """
    if isinstance(scheduler, type):
        raise ValueError(
            f"the scheduler is the class {scheduler.__name__}; make one with "
            f"{scheduler.__name__}.from_config(pipe.scheduler.config)."
        )
    name, known = type(scheduler).__name__, DISCRETE if kind == "discrete" else CONTINUOUS
    others = f"use one of {', '.join(known)}, made with .from_config(pipe.scheduler.config)."
    bases = [base for base in type(scheduler).__mro__ if base.__module__.startswith("diffusers.schedulers.")]
    is_known = any(base.__name__ in known for base in bases)
    if not is_known and (bases[:1] == [type(scheduler)] or not _has_interface(scheduler)):
        raise ValueError(f"scheduler {name} cannot run on this family's {kind} timesteps; {others}")
    config = scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if config.get("use_flow_sigmas") or str(prediction).startswith("flow"):
        raise ValueError(
            f"scheduler {name} is set to flow matching (use_flow_sigmas, prediction_type {prediction}), and "
            "this family was trained by diffusion; make it from the family's own config: "
            f"{name}.from_config(pipe.scheduler.config)."
        )
    if kind == "discrete":
        if config.get("timestep_type", "discrete") == "continuous":
            raise ValueError(
                f"scheduler {name} has timestep_type continuous, and this family takes discrete timesteps; "
                "make it with timestep_type='discrete'."
            )
        return
    _check_continuous(scheduler, name)


def check_same_noise(scheduler: Any, own: Mapping[str, Any]) -> None:
    """Check that a scheduler does not contradict the one that a model came with.

    Args:
        own: that one's config.

    Raises:
        ValueError: it predicts something else, or its noise schedule is another.
    """
    name = type(scheduler).__name__
    for key in _TRAINED_BY:
        given, wanted = scheduler.config.get(key), own.get(key)
        if given is not None and wanted is not None and given != wanted:
            raise ValueError(
                f"scheduler {name} has {key} {given}, and this model was trained with {wanted}; make it with "
                f"{name}.from_config(pipe.scheduler.config)."
            )


def _check_continuous(scheduler: Any, name: str) -> None:
    config = scheduler.config
    remedy = f"make it with {name}.from_config(pipe.scheduler.config"
    if config.get("prediction_type", "epsilon") != "v_prediction":
        raise ValueError(
            f"scheduler {name} has prediction_type {config.get('prediction_type', 'epsilon')}, and this "
            f"family predicts v; {remedy}, prediction_type='v_prediction')."
        )
    if name.startswith("EDM") and config.get("sigma_data") != 1:
        raise ValueError(
            f"scheduler {name} has sigma_data {config.get('sigma_data')}, and this family was trained with "
            f"1; {remedy}, sigma_data=1.0)."
        )
    if _is_euler(scheduler) and config.get("timestep_type") != "continuous":
        raise ValueError(
            f"scheduler {name} has timestep_type {config.get('timestep_type')}, and this family takes "
            f"continuous timesteps; {remedy}, timestep_type='continuous')."
        )
    if config.get("algorithm_type") in {"dpmsolver", "sde-dpmsolver"}:
        raise ValueError(
            f"scheduler {name} has algorithm_type {config['algorithm_type']}, which cannot end at sigma 0; "
            f"{remedy}, algorithm_type='dpmsolver++')."
        )
    spacing = next((key for key in _OTHER_SPACINGS if config.get(key)), None)
    if spacing is not None and not _is_euler(scheduler):
        raise ValueError(
            f"scheduler {name} has {spacing}, which is not supported on continuous timesteps; {remedy}, "
            f"{spacing}=False), or give sigmas."
        )


def set_timesteps(
    scheduler: Any,
    kind: TimestepType,
    num_inference_steps: int,
    *,
    sigmas: Sequence[float] | None = None,
    timesteps: Sequence[int] | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Set the steps of a run.

    On continuous timesteps, schedulers other than `EulerDiscreteScheduler` get Stable Video Diffusion's noise
    levels (from `sigma_max` to `sigma_min` with the spacing of Karras et al., then 0) and the timesteps
    ``0.25 ln sigma`` in place of those that they would compute. Their steps depend on `sigmas` only.

    Args:
        scheduler: accepted by `check_scheduler`.
        kind: of the timesteps.
        num_inference_steps: number of steps, if neither `sigmas` nor `timesteps` are given.
        sigmas: decreasing noise levels; the last 0 may be left out.
        timesteps: decreasing discrete timesteps.
        device: of the timesteps.

    Raises:
        ValueError: the scheduler does not take `sigmas` or `timesteps`.
    """
    if sigmas is not None:
        sigmas = [*sigmas] if sigmas[-1] == 0 else [*sigmas, 0.0]
    if kind == "continuous":
        if timesteps is not None:
            raise ValueError(
                "timesteps are given, and this family takes continuous ones (0.25 ln sigma); give sigmas."
            )
        if not _is_euler(scheduler):
            scheduler.set_timesteps(num_inference_steps if sigmas is None else len(sigmas) - 1, device=device)
            levels = torch.tensor(sigmas) if sigmas is not None else _karras(scheduler, num_inference_steps)
            scheduler.sigmas = levels
            scheduler.timesteps = (0.25 * levels[:-1].log()).to(device)
            return
    given = {"sigmas": sigmas, "timesteps": None if timesteps is None else [*timesteps]}
    name, values = next(((name, v) for name, v in given.items() if v is not None), (None, None))
    if name is None:
        scheduler.set_timesteps(num_inference_steps, device=device)
        return
    bases = {base.__name__ for base in type(scheduler).__mro__}
    is_of_flow = name == "sigmas" and not bases.isdisjoint(_SIGMAS_OF_FLOW_ALONE)
    if is_of_flow or name not in inspect.signature(scheduler.set_timesteps).parameters:
        takers = [each for each in DISCRETE if _takes(each, name)]
        raise ValueError(
            f"{name} are given, and {type(scheduler).__name__} does not take them; use one of "
            f"{', '.join(takers)}, or num_inference_steps."
        )
    scheduler.set_timesteps(device=device, **{name: values})


def _karras(scheduler: Any, num_steps: int) -> Tensor:
    """Return ``S + 1`` noise levels (arXiv 2206.00364, equation 5), the last one 0."""
    low, high = (
        float(scheduler.config.get(name) or _SVD_SIGMAS[name]) ** (1 / _RHO)
        for name in ("sigma_min", "sigma_max")
    )
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    levels = (high + ramp * (low - high)) ** _RHO
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).float()


def _is_euler(scheduler: Any) -> bool:
    return any(base.__name__ == "EulerDiscreteScheduler" for base in type(scheduler).__mro__)


def _has_interface(scheduler: Any) -> bool:
    return all(
        hasattr(scheduler, name)
        for name in ("config", "set_timesteps", "scale_model_input", "step", "init_noise_sigma")
    )


def _takes(name: str, argument: str) -> bool:
    import diffusers

    if argument == "sigmas" and name in _SIGMAS_OF_FLOW_ALONE:
        return False
    try:
        return argument in inspect.signature(getattr(diffusers, name).set_timesteps).parameters
    except ImportError:  # a scheduler whose own dependency is not installed
        return False
