"""From a calibration file of any known format to a camera. What the file holds decides, not its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from da3stream.errors import FormatError
from da3stream.source.calibration import (
    colmap_cameras,
    kalibr,
    kitti,
    matrix_file,
    orbslam3,
    transforms,
    unity,
)
from da3stream.source.calibration.calibration import Calibration
from da3stream.source.calibration.yaml_text import parse_yaml

FORMATS = (
    "COLMAP cameras.txt, ORB-SLAM3 or Kalibr/OpenVINS YAML, K.txt, KITTI calib.txt, transforms.json, or JSON "
    "with a field of view"
)
MAX_BYTES = 1 << 26
"""Of a file: the transforms.json of a million frames fits."""


def read_calibration(path: str | Path, *, input_size: tuple[int, int] | None = None) -> Calibration:
    """Read the one camera of a file, at the size that the file is of.

    Pixel centres of all formats become (0.5, 0.5). `Calibration.resized` makes it that of images of another
    size.

    Args:
        path: the file.
        input_size: (width, height) in pixels of the images that it is for. Only a transforms.json with
            nothing but an angle needs it.

    Raises:
        FormatError: it cannot be read, is of no known format, holds several cameras, or a value is missing
            or impossible. The message names file, format and value.
    """
    text = _text(Path(path))
    name = str(path)
    if text.lstrip().startswith(("{", "[{")):
        return _of_json(text, name, input_size)
    if colmap_cameras.looks_like(text):
        return colmap_cameras.read(text, name)
    if kitti.looks_like(text):
        return kitti.read(text, name)
    if matrix_file.looks_like(text):
        return matrix_file.read(text, name)
    return _of_yaml(text, name)


def _text(path: Path) -> str:
    if path.is_dir():
        raise FormatError(f"{path} is a folder", expected=f"a calibration file: {FORMATS}")
    if not path.exists():
        raise FormatError(
            f"there is no calibration file {path}",
            expected="fx,fy,cx,cy[,k1,k2,p1,p2] or a file",
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(
                f"{path} is too large for a calibration file", got=f"{path.stat().st_size} bytes"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"the calibration file {path} cannot be read", got=error.strerror) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FormatError(
            f"{path} is a binary file",
            expected=FORMATS,
            hint="A cameras.bin becomes text with: colmap model_converter --output_type TXT",
        )
    if not text.strip():
        raise FormatError(f"{path} is empty", expected=f"a calibration: {FORMATS}")
    return text


def _of_json(text: str, path: str, input_size: tuple[int, int] | None) -> Calibration:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no valid JSON: {error}") from None
    if isinstance(content, dict) and transforms.looks_like(content):
        return transforms.read(content, path, input_size)
    if isinstance(content, dict) and unity.looks_like(content):
        return unity.read(content, path)
    raise FormatError(
        f"{path} is JSON without a camera",
        got=", ".join(list(content)[:8]) or "no fields" if isinstance(content, dict) else "a list",
        expected="fl_x or camera_angle_x of a transforms.json, or fieldOfView with width and height",
    )


def _of_yaml(text: str, path: str) -> Calibration:
    try:
        fields = parse_yaml(text, path)
    except FormatError:
        if ":" in text:
            raise
        raise FormatError(f"{path} is no calibration file", expected=FORMATS) from None
    if kalibr.looks_like(fields):
        return kalibr.read(fields, path)
    if orbslam3.looks_like(fields):
        return orbslam3.read(fields, path)
    raise FormatError(
        f"{path} is YAML without a camera",
        got=", ".join(list(fields)[:8]) or "no fields",
        expected="Camera1.fx or Camera.fx (ORB-SLAM3), or cam0 (Kalibr, OpenVINS)",
    )
