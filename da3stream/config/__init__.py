"""Options: one flat set of names for configuration files, overrides and the command line."""

from da3stream.config.load import load_config, preset_names
from da3stream.config.model import (
    OUTPUT_OPTIONS,
    CameraConfig,
    ChunkingConfig,
    Config,
    EstimationConfig,
    KnownConfig,
    LoopConfig,
    MeansConfig,
    OutputConfig,
    SourceConfig,
)

__all__ = [
    "OUTPUT_OPTIONS",
    "CameraConfig",
    "ChunkingConfig",
    "Config",
    "EstimationConfig",
    "KnownConfig",
    "LoopConfig",
    "MeansConfig",
    "OutputConfig",
    "SourceConfig",
    "load_config",
    "preset_names",
]
