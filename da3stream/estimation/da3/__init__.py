"""Depth Anything 3: the network, what goes into it and what comes out.

Written from an architecture description; state-dict keys are those of the published checkpoints without their
leading `model.`. Nothing here imports torch until `da3stream.estimation.da3.network` or a neighbour is
imported.
"""

from __future__ import annotations

from da3stream.estimation.da3.config import PRESETS, ModelConfig, NestedModelConfig, preset

__all__ = ["PRESETS", "ModelConfig", "NestedModelConfig", "preset"]
