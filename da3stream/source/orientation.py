"""How decoded frames are turned to stand upright."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MATRIX = struct.Struct("<9i")


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """A quarter turn or a mirror image: first transposed, then mirrored."""

    transpose: bool = False
    """Swap rows and columns."""
    mirror_x: bool = False
    """Then exchange left and right."""
    mirror_y: bool = False
    """Then exchange top and bottom."""

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation | None:
        """Orientation of a display matrix; None if it turns by anything but right angles.

        The matrix (a b u; c d v; x y w), nine int32, takes a point of the stored frame to (a X + c Y, b X + d
        Y) on the screen, y downwards (ISO/IEC 14496-12, track header box). Scale and shift do not matter
        here.
        """
        a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
        if a and d and not (b or c):
            return cls(mirror_x=a < 0, mirror_y=d < 0)
        if b and c and not (a or d):
            return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
        return None

    @property
    def clockwise_deg(self) -> int:
        """The clockwise turn in degrees: 0, 90, 180 or 270. A mirror image is mirrored first."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def upright_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a stored frame of `width` x `height` once it is upright."""
        return (height, width) if self.transpose else (width, height)

    def upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The upright image, contiguous, of a stored (H, W, 3)."""
        import numpy as np  # later than the decoder process starts to decode

        turned = image.transpose(1, 0, 2) if self.transpose else image
        turned = turned[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return np.ascontiguousarray(turned)
