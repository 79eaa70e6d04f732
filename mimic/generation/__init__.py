"""Generate video files from reference pictures and driving clips."""

from mimic.generation.animate import GenerateResult, generate
from mimic.generation.run import CaseFailure, RunResult, run_config

__all__ = ["CaseFailure", "GenerateResult", "RunResult", "generate", "run_config"]
