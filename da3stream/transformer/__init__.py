"""The plain vision transformer that the networks share, and how their weights are loaded.

A leaf: it knows no stage. The depth networks (`da3stream.estimation.da3`) and the place descriptor
(`da3stream.place.salad`) are built from it. Nothing here imports torch until one of its modules is imported.
"""

from __future__ import annotations

PATCH_PX = 14
POSITION_GRID = 37  # the positional table was trained on 518 x 518 pixels: 37 x 37 patches
