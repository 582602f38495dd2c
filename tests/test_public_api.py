"""The names that are promised to stay."""

from __future__ import annotations

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
        "MissingDependencyError",
        "PlaceDescriptor",
        "Prediction",
        "Progress",
        "Result",
        "Sim3",
        "StoreError",
        "Trajectory",
        "Update",
        "WeightsError",
        "export",
        "load_config",
        "reconstruct",
        "stream",
    ]


def test_every_exported_name_resolves_and_is_documented() -> None:
    for name in da3stream.__all__:
        assert getattr(da3stream, name).__doc__, name


def test_all_errors_share_one_root() -> None:
    from da3stream import errors

    raised = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(raised) > 10
    assert all(issubclass(error, da3stream.Da3StreamError) for error in raised)
