"""gs_ply/gaussians.ply: the Gaussians of all frames, for viewers and trainers of 3D Gaussian Splatting."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunIncompleteError
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import FrameBlock, Gaussians
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import Encoding, PlyElement, ply_header

ENCODING: Encoding = "binary_little_endian"


class GaussianPlyWriter(Writer):
    """Binary little-endian PLY with the properties of 3D Gaussian Splatting (Kerbl et al. 2023), all float:

    - x y z: centre in the world frame; nx ny nz: 0.
    - f_dc_0..2: red, green, blue as coefficients of the constant harmonic, without the shift by 0.5.
    - f_rest_0..23, only with `gaussian_degree` 2: the other coefficients, first all of red, then green, blue.
    - opacity: logit. scale_0..2: natural logarithms, in world units.
    - rot_0..3: unit quaternion w x y z of the axes, with rot_3 >= 0 as the published export has it.

    Frames have equal parts of `max_gaussians`; what one does not need is not given to another.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream: BinaryIO = self._pending.file("gs_ply/gaussians.ply")
        coefficients = (context.config.gaussian_degree + 1) ** 2
        self._element = PlyElement(
            name="vertex", properties=tuple(f"float {name}" for name in property_names(coefficients))
        )
        self._frames = self._written = 0
        self._stream.write(ply_header(ENCODING, {self._element: 0}))

    def add(self, block: FrameBlock) -> None:
        """Write the Gaussians of one block.

        Raises:
            RunIncompleteError: the block comes without.
        """
        if block.gaussians is None:
            raise RunIncompleteError(
                "the run has no Gaussians",
                expected="a run that was made with gs_ply among its formats",
                hint="Run again with a giant model and `--export gs_ply` (or with more formats).",
            )
        for row, pose in enumerate(block.world_from_cam):
            seen = block.gaussians.of_frame(row, self._part())
            in_world = seen.moved(Sim3(rotation=pose[:3, :3], translation=pose[:3, 3]))
            self._stream.write(ply_rows(in_world).tobytes())
            self._written += len(in_world)

    def finish(self) -> None:
        self._stream.seek(0)
        self._stream.write(ply_header(ENCODING, {self._element: self._written}))
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    def _part(self) -> int:
        """How many of the next frame are taken. The running total is rounded, not the part."""
        most, frames = self.context.config.max_gaussians, max(self.context.frames, 1)
        before = most * self._frames // frames
        self._frames += 1
        return most * self._frames // frames - before


def property_names(coefficients: int) -> tuple[str, ...]:
    """Columns of `ply_rows`, of Gaussians with so many coefficients a colour."""
    return (
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{channel}" for channel in range(3)),
        *(f"f_rest_{number}" for number in range(3 * (coefficients - 1))),
        "opacity",
        *(f"scale_{axis}" for axis in range(3)),
        *(f"rot_{part}" for part in range(4)),
    )


def ply_rows(gaussians: Gaussians) -> NDArray[np.float32]:
    """(K, F) values of the columns of `property_names`, little-endian."""
    rotations = np.where(gaussians.rotations_wxyz[:, 3:] < 0, -1, 1) * gaussians.rotations_wxyz
    columns = (
        gaussians.means,
        np.zeros_like(gaussians.means),
        gaussians.harmonics[:, :, 0],
        gaussians.harmonics[:, :, 1:].reshape(len(gaussians), 3 * (gaussians.harmonics.shape[2] - 1)),
        gaussians.opacity_logits[:, None],
        gaussians.log_scales,
        rotations,
    )
    return np.concatenate([column.astype("<f4") for column in columns], axis=1)
