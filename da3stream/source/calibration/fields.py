"""Reading fields of a file, with an error that names file and field for whatever may be wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from da3stream.errors import FormatError
from da3stream.geometry.lens import Distortion, LensCamera
from da3stream.source.calibration.calibration import Calibration

LARGEST_SIDE_PX = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationFile:
    """A file that is being read."""

    path: str
    format: str
    """Name of its format, for messages."""

    def fail(
        self, what: str, *, got: object = None, expected: object = None, hint: str | None = None
    ) -> NoReturn:
        """Raise FormatError about this file."""
        raise FormatError(f"{self.path} ({self.format}): {what}", got=got, expected=expected, hint=hint)

    def number(self, fields: Mapping[str, Any], name: str, default: float | None = None) -> float:
        """A finite number; without a default it must be there."""
        if name not in fields:
            if default is None:
                self.fail(f"{name} is missing", got=", ".join(map(str, list(fields)[:12])) or "no fields")
            return default
        return self.as_number(fields[name], name)

    def as_number(self, value: object, name: str) -> float:
        """A finite number of a number or of text."""
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            found = float(value)  # YAML takes 1e-9 for text
        except ValueError:
            self.fail(f"{name} is no number", got=repr(value)[:80])
        if not math.isfinite(found):
            self.fail(f"{name} is not finite", got=value)
        return found

    def numbers(self, fields: Mapping[str, Any], name: str, count: int) -> list[float]:
        """A list of so many numbers."""
        if name not in fields:
            self.number(fields, name)
        values = fields[name]
        if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
            self.fail(f"{name} is no list of {count} numbers", got=repr(values)[:80])
        return [self.as_number(value, f"{name}[{position}]") for position, value in enumerate(values)]

    def size(self, width: object, height: object) -> tuple[int, int]:
        """(width, height) in pixels."""
        sides = self.as_number(width, "the width"), self.as_number(height, "the height")
        if any(side != int(side) or not 0 < side <= LARGEST_SIDE_PX for side in sides):
            self.fail(
                "the image size is impossible", got=f"{sides[0]:g}x{sides[1]:g}", expected="whole pixels"
            )
        return int(sides[0]), int(sides[1])

    def distortion(self, model: str, coefficients: Sequence[float]) -> Distortion | None:
        """None if the coefficients are those of a pinhole camera."""
        found = Distortion(model=model, coefficients=tuple(coefficients))
        return None if found.is_nothing else found

    def calibration(
        self,
        intrinsics: Sequence[float],
        distortion: Distortion | None,
        size: tuple[int, int] | None,
        shift_px: float = 0.0,
    ) -> Calibration:
        """The calibration of fx, fy, cx, cy; `shift_px` is added to cx and cy.

        Focal lengths must be positive, and the principal point must lie in the image, if its size is known.
        """
        fx, fy, cx, cy = intrinsics
        if min(fx, fy) <= 0:
            self.fail("a focal length is not positive", got=f"fx {fx:g}, fy {fy:g}")
        cx, cy = cx + shift_px, cy + shift_px
        right, bottom = size or (math.inf, math.inf)
        if not (0 < cx < right and 0 < cy < bottom):
            where = "" if size is None else f" of {size[0]}x{size[1]}"
            self.fail(f"the principal point lies outside of the image{where}", got=f"({cx:g}, {cy:g})")
        camera = LensCamera(fx=fx, fy=fy, cx=cx, cy=cy, distortion=distortion)
        return Calibration(camera=camera, size=size, format=self.format, path=self.path)

    def only(self, cameras: Sequence[Calibration], names: Sequence[str]) -> Calibration:
        """The one camera of the file; several are fine if they are equal."""
        if any((one.camera, one.size) != (cameras[0].camera, cameras[0].size) for one in cameras):
            self.fail_several(names)
        return cameras[0]

    def fail_several(self, names: Sequence[str]) -> NoReturn:
        """Raise FormatError: the file holds these cameras."""
        self.fail(
            f"it holds {len(names)} cameras",
            got=", ".join(names[:6]) + ("..." if len(names) > 6 else ""),
            expected="one",
            hint="Leave only the one that took the input in the file.",
        )
