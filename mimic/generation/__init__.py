"""Generate video files from reference pictures and driving clips."""

from mimic.generation.animate import generate
from mimic.generation.cases import CaseFailure, RunResult
from mimic.generation.estimate import Estimate, estimate_config
from mimic.generation.result import GenerateResult
from mimic.generation.run import run_config

__all__ = [
    "CaseFailure",
    "Estimate",
    "GenerateResult",
    "RunResult",
    "estimate_config",
    "generate",
    "run_config",
]
