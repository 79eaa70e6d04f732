"""Typed, frozen settings, read from YAML with ``key=value`` overrides; a misspelt key is an error."""

from mimic.config.case import CaseSettings
from mimic.config.inference import CaseConfig, InferenceConfig, load_inference_config
from mimic.config.loading import Config, ConfigError, load_config, shipped_config

__all__ = [
    "CaseConfig",
    "CaseSettings",
    "Config",
    "ConfigError",
    "InferenceConfig",
    "load_config",
    "load_inference_config",
    "shipped_config",
]
