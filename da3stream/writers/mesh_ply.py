"""Triangle meshes in the PLY format, written while the numbers of vertices and faces are still unknown."""

from __future__ import annotations

import shutil
from typing import BinaryIO

import numpy as np

from da3stream.writers.ply import Encoding, PlyElement, ply_header
from da3stream.writers.tsdf import Mesh

_ENCODING: Encoding = "binary_little_endian"
_VERTEX = np.dtype([("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])
_FACE = np.dtype([("corners", "u1"), ("vertices", "<i4", 3)])
_VERTICES = PlyElement(
    name="vertex",
    properties=(
        *(f"float {axis}" for axis in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"uchar {channel}" for channel in ("red", "green", "blue")),
    ),
)
_FACES = PlyElement(name="face", properties=("list uchar int vertex_indices",))


class MeshPly:
    """A binary PLY of coloured triangles on a seekable stream. Faces wait in a second one until the end."""

    def __init__(self, stream: BinaryIO, faces: BinaryIO) -> None:
        self._stream, self._face_stream = stream, faces
        self.vertices = self.faces = 0
        """How many so far."""
        stream.write(ply_header(_ENCODING, {_VERTICES: 0, _FACES: 0}))

    def append(self, mesh: Mesh) -> None:
        """Add a mesh."""
        vertices = np.empty(len(mesh.vertices), dtype=_VERTEX)
        vertices["position"], vertices["normal"] = mesh.vertices, mesh.normals
        vertices["color"] = mesh.colors
        self._stream.write(vertices.tobytes())
        faces = np.empty(len(mesh.faces), dtype=_FACE)
        faces["corners"], faces["vertices"] = 3, mesh.faces + self.vertices
        self._face_stream.write(faces.tobytes())
        self.vertices += len(vertices)
        self.faces += len(faces)

    def complete(self) -> None:
        """Append the faces, and write the numbers into the header."""
        self._face_stream.seek(0)
        shutil.copyfileobj(self._face_stream, self._stream)
        self._stream.seek(0)
        self._stream.write(ply_header(_ENCODING, {_VERTICES: self.vertices, _FACES: self.faces}))
