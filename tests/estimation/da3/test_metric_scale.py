"""A scene in metres, an estimator that sees it in another unit, and a metric network that tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.base import GeometryEstimator
from da3stream.estimation.da3.metric_scale import DOUBTFUL_SCALE, NO_SCALE, MetricScaledEstimator
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.scene import KnownCameras, Prediction
from tests.estimation.da3.small_networks import small_single_view

METRES_PER_UNIT = 3.7
HEIGHT, WIDTH = 56, 84
FRAMES = 10
"""More than the wrapper shows to the network at a time."""

Change = Callable[[NDArray[np.float32]], None]


def truth_m(frame: int, height: int, width: int) -> NDArray[np.float32]:
    """Depth in metres of a wall of 2 x 3 slabs, at any size that they divide."""
    slabs = 2.0 + frame + np.arange(6, dtype=np.float32).reshape(2, 3)
    return np.repeat(np.repeat(slabs, height // 2, axis=0), width // 3, axis=1)


def camera(width: int, height: int) -> NDArray[np.float64]:
    at_56_x_84 = np.array([[90.0, 0, WIDTH / 2], [0, 70.0, HEIGHT / 2], [0, 0, 1]])
    return rescale_intrinsics(at_56_x_84, (WIDTH, HEIGHT), (width, height))


@dataclass
class FakeNetwork:
    """Knows the truth of each frame, whose number is the red of its image, and its own input size."""

    change_depth: Change = lambda canonical: None
    sky: NDArray[np.float32] = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH), np.float32))
    config: Any = field(default_factory=lambda: SimpleNamespace(name="fake-metric"))

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        _, views, _, height, width = images.shape
        frames = torch.round((images[0, :, 0].mean(dim=(1, 2)) * 0.229 + 0.485) * 255).int().tolist()
        focal_px = camera(width, height)[[0, 1], [0, 1]].mean()
        depth = np.stack([truth_m(frame, height, width) for frame in frames]) * np.float32(300 / focal_px)
        self.change_depth(depth)
        sky = np.broadcast_to(self.sky, (views, height, width)).copy()
        return {"depth": torch.from_numpy(depth)[None], "sky": torch.from_numpy(sky)[None]}


@dataclass
class FakeEstimator:
    """The truth in another unit, with depth maps of a size of their own."""

    height: int = HEIGHT
    width: int = WIDTH
    changes: dict[str, Any] = field(default_factory=dict)
    name: str = "fake"
    is_metric: bool = False
    closed: bool = False
    seen: KnownCameras | None = None

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        self.seen = known_cameras
        return replace(self.exact(len(images)), **self.changes)

    def exact(self, frames: int = FRAMES) -> Prediction:
        cameras = np.tile(np.eye(3, 4), (frames, 1, 1))
        cameras[:, :, 3] = np.arange(3 * frames).reshape(frames, 3)
        depth_m = np.stack([truth_m(frame, self.height, self.width) for frame in range(frames)])
        return Prediction(
            depth=(depth_m / METRES_PER_UNIT).astype(np.float32),
            confidence=np.ones_like(depth_m),
            cam_from_submap=cameras,
            intrinsics=np.tile(camera(self.width, self.height), (frames, 1, 1)),
            is_metric=False,
        )

    def close(self) -> None:
        self.closed = True


def images_of(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    images = np.zeros((FRAMES, height, width, 3), dtype=np.uint8)
    images[..., 0] = np.arange(FRAMES, dtype=np.uint8)[:, None, None]
    return images


def scaled(
    estimator: FakeEstimator, network: FakeNetwork, images: NDArray[np.uint8] | None = None
) -> Prediction:
    wrapper = MetricScaledEstimator(estimator, network, device="cpu")  # type: ignore[arg-type]
    return wrapper.estimate(images_of() if images is None else images, indices=np.arange(FRAMES))


def assert_metric(found: Prediction, estimator: FakeEstimator) -> None:
    """Depth and translations, and nothing else, are multiplied by the right factor."""
    given = replace(estimator.exact(), **estimator.changes)
    assert found.is_metric
    np.testing.assert_allclose(found.depth, given.depth * METRES_PER_UNIT, rtol=1e-5)
    np.testing.assert_allclose(
        found.cam_from_submap[:, :, 3], given.cam_from_submap[:, :, 3] * METRES_PER_UNIT, rtol=1e-6
    )
    np.testing.assert_array_equal(found.cam_from_submap[:, :, :3], given.cam_from_submap[:, :, :3])
    np.testing.assert_array_equal(found.intrinsics, given.intrinsics)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (28, 42), (112, 168), (18, 30)])
def test_the_unit_is_recovered_whatever_the_size_of_the_depth_maps(size: tuple[int, int]) -> None:
    estimator = FakeEstimator(*size)
    found = scaled(estimator, FakeNetwork())
    assert_metric(found, estimator)
    assert found.warnings == ()
    assert found.sky is not None
    assert not found.sky.any()
    np.testing.assert_array_equal(found.confidence, 1)


def test_images_of_any_size_are_shown_in_whole_patches() -> None:
    """The focal length that counts is that of what the network sees: 56 x 84 instead of 50 x 80 pixels."""
    assert_metric(scaled(FakeEstimator(), FakeNetwork(), images_of(50, 80)), FakeEstimator())


def test_outliers_do_not_count() -> None:
    def spoil(depth: NDArray[np.float32]) -> None:
        depth[:, :20] *= 10  # more than a third

    found = scaled(FakeEstimator(), FakeNetwork(change_depth=spoil))
    assert_metric(found, FakeEstimator())


def test_only_the_more_confident_half_counts() -> None:
    confidence, depth = np.ones((FRAMES, HEIGHT, WIDTH), np.float32), FakeEstimator().exact().depth.copy()
    confidence[:, :27] = 0.5
    depth[:, :27] *= 7
    estimator = FakeEstimator(changes={"confidence": confidence, "depth": depth})
    found = scaled(estimator, FakeNetwork())
    assert_metric(found, estimator)
    assert found.warnings == ()


def test_sky_is_masked_and_does_not_count() -> None:
    """What is a little like sky (0.4) counts neither, though it is published as ground."""
    sky = np.zeros((HEIGHT, WIDTH), np.float32)
    sky[:20], sky[20:40] = 0.9, 0.4

    def spoil(depth: NDArray[np.float32]) -> None:
        depth[:, :40] *= 50

    estimator = FakeEstimator(28, 42)
    found = scaled(estimator, FakeNetwork(change_depth=spoil, sky=sky))
    assert_metric(found, estimator)
    assert found.sky is not None
    assert found.sky[:, :10].all()
    assert not found.sky[:, 10:].any()
    np.testing.assert_array_equal(found.confidence, np.where(found.sky, 0, 1))


def test_the_sky_of_the_wrapped_estimator_stays_sky() -> None:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=bool)
    mask[:, :, :50] = True  # most of it
    depth = np.where(mask, np.float32(1e4), FakeEstimator().exact().depth)
    estimator = FakeEstimator(changes={"sky": mask, "depth": depth})
    found = scaled(estimator, FakeNetwork())
    assert_metric(found, estimator)
    assert found.sky is not None
    np.testing.assert_array_equal(found.sky, mask)


def test_views_with_a_wrong_focal_length_are_outvoted() -> None:
    intrinsics = FakeEstimator().exact().intrinsics.copy()
    intrinsics[:4, [0, 1], [0, 1]] *= 5
    estimator = FakeEstimator(changes={"intrinsics": intrinsics})
    assert_metric(scaled(estimator, FakeNetwork()), estimator)


@pytest.mark.parametrize("problem", ["no confidence", "no depth", "all sky"])
def test_where_nothing_can_be_told_the_unit_stays(problem: str) -> None:
    estimator, network = FakeEstimator(), FakeNetwork()
    if problem == "no confidence":
        estimator.changes["confidence"] = np.zeros((FRAMES, HEIGHT, WIDTH), np.float32)
    elif problem == "all sky":
        network.sky = np.ones((HEIGHT, WIDTH), np.float32)
    else:
        network.change_depth = lambda depth: depth.fill(np.nan)
    estimator.changes["warnings"] = ("of its own",)
    found = scaled(estimator, network)
    assert not found.is_metric
    assert found.warnings == ("of its own", NO_SCALE)
    np.testing.assert_array_equal(found.depth, estimator.exact().depth)
    np.testing.assert_array_equal(found.cam_from_submap, estimator.exact().cam_from_submap)


def test_where_nothing_can_be_told_metres_of_ones_own_stay_metres() -> None:
    estimator = FakeEstimator(changes={"is_metric": True})
    found = scaled(estimator, FakeNetwork(sky=np.ones((HEIGHT, WIDTH), np.float32)))
    assert found.is_metric
    np.testing.assert_array_equal(found.depth, estimator.exact().depth)


def test_disagreement_is_said() -> None:
    def scatter(depth: NDArray[np.float32]) -> None:
        depth[:, :, ::2] *= 6

    found = scaled(FakeEstimator(changes={"warnings": ("of its own",)}), FakeNetwork(change_depth=scatter))
    assert found.is_metric
    assert found.warnings == ("of its own", DOUBTFUL_SCALE)


def test_it_is_an_estimator_and_writes_to_nothing() -> None:
    estimator = FakeEstimator()
    given = estimator.exact()
    arrays = {name: getattr(given, name).copy() for name in ("depth", "confidence", "cam_from_submap")}
    for array in arrays.values():
        array.flags.writeable = False
    estimator.changes = arrays
    wrapper = MetricScaledEstimator(estimator, FakeNetwork(), device="cpu")  # type: ignore[arg-type]
    assert isinstance(wrapper, GeometryEstimator)
    assert wrapper.is_metric
    assert wrapper.name == "fake+fake-metric"
    known = KnownCameras(intrinsics=given.intrinsics)
    found = wrapper.estimate(images_of(), indices=np.arange(FRAMES), known_cameras=known)
    again = wrapper.estimate(images_of(), indices=np.arange(FRAMES), known_cameras=known)
    assert estimator.seen is known
    np.testing.assert_array_equal(found.depth, again.depth)
    wrapper.close()
    assert estimator.closed


def test_a_broken_estimator_is_named() -> None:
    cameras = np.full((FRAMES, 3, 4), np.nan)
    with pytest.raises(EstimationError, match="'fake' broke its contract: a camera is not finite"):
        scaled(FakeEstimator(changes={"cam_from_submap": cameras}), FakeNetwork())


def test_a_real_network_gives_a_finite_scale() -> None:
    wrapper = MetricScaledEstimator(FakeEstimator(), small_single_view(), device="cpu")  # type: ignore[arg-type]
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    found = wrapper.estimate(noise, indices=np.arange(FRAMES))
    assert wrapper.name == "fake+da3metric-large"
    assert found.is_metric
    ratio = found.depth / FakeEstimator().exact().depth
    assert np.isfinite(ratio).all()
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    assert ratio[0, 0, 0] > 0
