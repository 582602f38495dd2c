"""Display matrices."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from da3stream.source.orientation import Orientation

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
ONE = 1 << 16


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return struct.pack("<9i", a, b, 0, c, d, 0, 123 * ONE, 45 * ONE, 1 << 30)


@pytest.mark.parametrize(
    ("entries", "clockwise_deg", "expected"),
    [
        ((ONE, 0, 0, ONE), 0, IMAGE),
        ((0, ONE, -ONE, 0), 90, np.rot90(IMAGE, -1)),
        ((-ONE, 0, 0, -ONE), 180, np.rot90(IMAGE, 2)),
        ((0, -ONE, ONE, 0), 270, np.rot90(IMAGE, 1)),
        ((-ONE, 0, 0, ONE), 0, IMAGE[:, ::-1]),
        ((ONE, 0, 0, -ONE), 180, IMAGE[::-1]),
        ((0, ONE, ONE, 0), 270, IMAGE.transpose(1, 0, 2)),
    ],
)
def test_right_angles_and_mirrors(
    entries: tuple[int, int, int, int], clockwise_deg: int, expected: np.ndarray
) -> None:
    orientation = Orientation.from_display_matrix(matrix(*entries))
    assert orientation is not None
    upright = orientation.upright(IMAGE)
    np.testing.assert_array_equal(upright, expected)
    assert upright.flags.c_contiguous
    assert orientation.clockwise_deg == clockwise_deg
    assert orientation.upright_size(3, 2) == (upright.shape[1], upright.shape[0])


def test_other_angles_are_not_known() -> None:
    assert Orientation.from_display_matrix(matrix(56756, 32768, -32768, 56756)) is None
