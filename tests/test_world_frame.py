"""Points that a user names, and what a run is aligned by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.errors import ConfigError
from da3stream.world_frame import ScenePoint, _seen_in_cam

from .writers.plane_scene import HEIGHT, ORIGINAL, PLANE_NORMAL, PLANE_OFFSET, STEP, WIDTH, plane_block


def pixel_of(line: int, column: int) -> tuple[float, float]:
    """Where the user's image has the centre of a pixel of the depth map."""
    x, y = STEP * column + STEP // 2 + 0.5, STEP * line + STEP // 2 + 0.5
    return x * ORIGINAL[0] / WIDTH, y * ORIGINAL[1] / HEIGHT


@pytest.mark.parametrize(("line", "column"), [(0, 0), (7, 20), (18, 27)])
def test_a_pixel_of_the_users_image_is_the_point_that_it_shows(line: int, column: int) -> None:
    block = plane_block(3, 6)
    pixel = pixel_of(line, column)
    in_cam = _seen_in_cam(block, 1, ScenePoint(frame=4, pixel=pixel), pixel)
    pose = block.world_from_cam[1]
    assert PLANE_NORMAL @ (pose[:3, :3] @ in_cam + pose[:3, 3]) == pytest.approx(PLANE_OFFSET, rel=1e-6)
    seen = block.depth_intrinsics[1] @ in_cam / in_cam[2]
    assert seen[:2] == pytest.approx([column + 0.5, line + 0.5])


def test_a_pixel_without_depth_is_said_to_be() -> None:
    block = plane_block(0, 1)
    confidence = block.confidence.copy()
    confidence[0, 5, 9] = 0
    pixel = pixel_of(5, 9)
    with pytest.raises(ConfigError, match=r"no depth is known at 0:\d+.*Name a point"):
        _seen_in_cam(replace(block, confidence=confidence), 0, ScenePoint(frame=0, pixel=pixel), pixel)
    assert np.isfinite(_seen_in_cam(block, 0, ScenePoint(frame=0, pixel=pixel), pixel)).all()
