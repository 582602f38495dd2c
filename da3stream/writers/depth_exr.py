"""depth_exr/: depth as OpenEXR images."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from da3stream.errors import MissingDependencyError, StoreError
from da3stream.writers.base import WriterContext
from da3stream.writers.depth_images import DepthImagesWriter
from da3stream.writers.kept_depth import FrameDepth


class DepthExrWriter(DepthImagesWriter):
    """depth_exr/000042.exr: channel `Z`, 32-bit float, world units as they are, 0 = unknown; ZIP compression.

    Written by the library of the format's authors: OpenCV's wheels come without OpenEXR, or with a copy that
    has to be switched on by an environment variable before OpenCV is loaded.
    Format: https://openexr.com/en/latest/TechnicalIntroduction.html
    """

    name: ClassVar = "depth_exr"
    suffix: ClassVar = ".exr"

    def __init__(self, context: WriterContext) -> None:
        """
        Raises:
            MissingDependencyError: OpenEXR is not installed.
        """
        self._library = _openexr()
        super().__init__(context)

    def _write(self, path: Path, found: FrameDepth) -> None:
        header = {"compression": self._library.ZIP_COMPRESSION, "type": self._library.scanlineimage}
        try:
            with self._library.File(header, {"Z": found.depth}) as image:
                image.write(str(path))
        except RuntimeError as error:
            raise StoreError(
                f"depth_exr/{path.name} could not be written",
                got=str(error),
                hint="Is the disk full? What is stored until here is kept; go on with --resume.",
            ) from error

    def _scale(self) -> dict[str, Any]:
        return {"channel": "Z", "unit": "metres" if self.context.is_metric else "the run's own unit"}


def _openexr() -> ModuleType:
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingDependencyError(
            "depth_exr needs OpenEXR", got=str(error), hint="pip install 'da3stream[exr]'"
        ) from None
    return OpenEXR
