"""Point clouds in the PLY format, written while their number of points is still unknown.

Format: Greg Turk, "The PLY Polygon File Format" (1994). The header says how many vertices follow, so it is
written twice: first as a place holder, at the end with the number. A comment of variable length keeps its
size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["ascii", "binary_little_endian"]

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_COUNT_DIGITS = 20
_SLICE = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PlyElement:
    """One kind of row of a PLY."""

    name: str
    properties: tuple[str, ...]
    """`float x`, `list uchar int vertex_indices` and the like."""


def ply_header(encoding: Encoding, elements: Mapping[PlyElement, int]) -> bytes:
    """A header whose length does not depend on the numbers of rows, which `elements` gives."""
    digits = "".join(str(count) for count in elements.values())
    padding = "." * (_COUNT_DIGITS * len(elements) - len(digits))
    lines = ["ply", f"format {encoding} 1.0", f"comment da3stream {padding}"]
    for element, count in elements.items():
        lines.append(f"element {element.name} {count}")
        lines.extend(f"property {each}" for each in element.properties)
    return "\n".join([*lines, "end_header"]).encode() + b"\n"


_POINT = PlyElement(
    name="vertex",
    properties=(
        *(f"float {axis}" for axis in "xyz"),
        *(f"uchar {channel}" for channel in ("red", "green", "blue")),
    ),
)


class PointPly:
    """A PLY of coloured points (float x y z, uchar red green blue) on a seekable stream."""

    def __init__(self, stream: BinaryIO, encoding: Encoding = "binary_little_endian") -> None:
        self._stream = stream
        self._encoding = encoding
        self.points = 0
        """Number of points so far."""
        stream.write(ply_header(encoding, {_POINT: 0}))

    def append(self, positions: NDArray[Any], colors: NDArray[np.uint8]) -> None:
        """Add points: positions (K, 3), written as float32, and colors (K, 3)."""
        encode = _binary_rows if self._encoding == "binary_little_endian" else _text_rows
        for start in range(0, len(positions), _SLICE):
            stop = start + _SLICE
            self._stream.write(encode(positions[start:stop], colors[start:stop]))
        self.points += len(positions)

    def complete(self) -> None:
        """Write the number of points into the header."""
        self._stream.seek(0)
        self._stream.write(ply_header(self._encoding, {_POINT: self.points}))


def _binary_rows(positions: NDArray[Any], colors: NDArray[np.uint8]) -> bytes:
    rows = np.empty(len(positions), dtype=_VERTEX)
    rows["position"] = positions
    rows["color"] = colors
    return rows.tobytes()


def _text_rows(positions: NDArray[Any], colors: NDArray[np.uint8]) -> bytes:
    # Nine significant digits identify a float32.
    return b"".join(
        b"%.9g %.9g %.9g %d %d %d\n" % (*position, *color)
        for position, color in zip(positions.tolist(), colors.tolist(), strict=True)
    )


def write_points_with_normals(stream: BinaryIO, positions: NDArray[Any], colors: NDArray[np.uint8]) -> None:
    """A whole binary file of (K, 3) positions and (K, 3) colours with normals of zero.

    Trainers of 3D Gaussians that look for points3D.ply read the properties nx, ny and nz, and make no use of
    them (github.com/graphdeco-inria/gaussian-splatting, scene/dataset_readers.py).
    """
    vertex = np.dtype([("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])
    rows = np.zeros(len(positions), dtype=vertex)
    rows["position"], rows["color"] = positions, colors
    names = [*(f"float {axis}" for axis in ("x", "y", "z", "nx", "ny", "nz"))]
    names += [f"uchar {channel}" for channel in ("red", "green", "blue")]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [*(f"property {name}" for name in names), "end_header"]
    stream.write("\n".join(lines).encode() + b"\n" + rows.tobytes())
