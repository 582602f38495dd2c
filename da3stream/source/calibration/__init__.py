"""Calibration files, one file a format. `read_calibration` finds out which one it is."""

from da3stream.source.calibration.calibration import Calibration
from da3stream.source.calibration.reading import read_calibration

__all__ = ["Calibration", "read_calibration"]
