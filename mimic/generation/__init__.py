"""From a reference picture and a driving clip to a video file, with all that lies between."""

from mimic.generation.animate import GenerateResult, generate
from mimic.generation.run import CaseFailure, RunResult, run_config

__all__ = ["CaseFailure", "GenerateResult", "RunResult", "generate", "run_config"]
