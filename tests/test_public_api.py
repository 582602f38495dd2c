"""The names that are promised to stay."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import da3stream


def test_exported_names_are_pinned() -> None:
    assert sorted(da3stream.__all__) == [
        "Config",
        "ConfigError",
        "Da3StreamError",
        "DeviceMemoryError",
        "EstimationError",
        "FormatError",
        "Frame",
        "FrameSource",
        "GeometryEstimator",
        "InputError",
        "KnownCameras",
        "KnownDistance",
        "MissingDependencyError",
        "PlaceDescriptor",
        "Prediction",
        "Progress",
        "Result",
        "ScenePoint",
        "Sim3",
        "StoreError",
        "Trajectory",
        "Update",
        "WeightsError",
        "WorldAlignment",
        "align",
        "export",
        "load_config",
        "reconstruct",
        "stream",
    ]


def test_every_exported_name_resolves_and_is_documented() -> None:
    for name in da3stream.__all__:
        assert getattr(da3stream, name).__doc__, name


def test_align_is_reachable_with_what_it_takes_and_returns(tmp_path: Path) -> None:
    known = da3stream.KnownDistance(
        start=da3stream.ScenePoint.parse("3"), end=da3stream.ScenePoint(frame=9, pixel=(4.0, 5.5)), metres=2.0
    )
    asked = inspect.signature(da3stream.align).parameters
    assert [*asked] == ["run_directory", "up", "scale", "known_distance", "reset", "progress"]
    with pytest.raises(da3stream.ConfigError, match="exclude each other"):
        da3stream.align(tmp_path, scale=2.0, known_distance=known)
    with pytest.raises(da3stream.StoreError, match="no run"):
        da3stream.align(tmp_path, known_distance=known)


def test_all_errors_share_one_root() -> None:
    from da3stream import errors

    raised = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(raised) > 10
    assert all(issubclass(error, da3stream.Da3StreamError) for error in raised)
