"""Depth Anything 3: the network, what goes into it and what comes out.

Written from an architecture description; state-dict keys are those of the published checkpoints without their
leading `model.`. Nothing here imports torch until `da3stream.estimation.da3.network` or a neighbour is
imported.
"""

from __future__ import annotations

import os

from da3stream.estimation.da3.config import PRESETS, ModelConfig, NestedModelConfig, preset

# Chunks of changing length would tear the GPU's memory to pieces; torch reads this when it is imported.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

__all__ = ["PRESETS", "ModelConfig", "NestedModelConfig", "preset"]
