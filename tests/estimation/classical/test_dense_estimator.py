"""Dense depth as a whole, against scenes whose depth is known exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.errors import EstimationError
from da3stream.estimation.classical.dense import DenseMaps, SparseDepth, dense_depth

WIDTH, HEIGHT, FRAMES = 192, 128, 9
FOCAL_PX = 150.0
STEP = 0.12
"""Metres of sideways motion between frames; the scene is 2.5 to 5 m away."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Rendered frames, their cameras and their exact depth."""

    images: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]
    depth: NDArray[np.float64]

    def dense(self, sparse: SparseDepth | None = None) -> DenseMaps:
        return dense_depth(self.images, self.intrinsics, self.cam_from_world, sparse=sparse)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A textured plane n . x = 1 in world coordinates, within |x - x0|, |y - y0| < half of it."""

    normal: NDArray[np.float64]
    centre: tuple[float, float] = (0.0, 0.0)
    half: float = 1e9


BACKGROUND = Surface(normal=np.array([0.04, -0.03, 0.25]))
BOX = Surface(normal=np.array([0.0, 0.0, 0.4]), centre=(0.2, 0.1), half=0.45)


def camera_matrix() -> NDArray[np.float64]:
    return np.array([[FOCAL_PX, 0, WIDTH / 2 + 3.0], [0, FOCAL_PX, HEIGHT / 2 - 2.0], [0, 0, 1]])


def texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Grey noise with detail at 4 to 20 texels, 0..255."""
    layers = [
        cv2.GaussianBlur(rng.normal(size=(1024, 1024)).astype(np.float32), (0, 0), sigma) * sigma
        for sigma in (2, 5, 10)
    ]
    return np.clip(128 + 180 * sum(layers), 0, 255).astype(np.float32)


def yaw(angle_rad: float) -> NDArray[np.float64]:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def moving_sideways(frames: int = FRAMES) -> NDArray[np.float64]:
    """Cameras that look ahead, turn a little, and move right and slightly forward."""
    poses = np.zeros((frames, 3, 4))
    for i in range(frames):
        rotation = yaw(np.deg2rad(0.4) * (i - frames / 2))
        centre = STEP * (i - frames / 2) * np.array([1.0, 0.1, 0.3])
        poses[i] = np.column_stack([rotation, -rotation @ centre])
    return poses


def render(surfaces: tuple[Surface, ...], cam_from_world: NDArray[np.float64]) -> Scene:
    rng = np.random.default_rng(7)
    textures = [texture(rng) for _ in surfaces]
    matrix = camera_matrix()
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(matrix).T
    images, depths = [], []
    for pose in cam_from_world:
        centre, directions = -pose[:, :3].T @ pose[:, 3], rays @ pose[:, :3]
        image, depth = np.zeros((HEIGHT, WIDTH), np.float32), np.full((HEIGHT, WIDTH), np.inf)
        for surface, skin in zip(surfaces, textures, strict=True):
            distance = (1 - surface.normal @ centre) / (directions @ surface.normal)
            points = centre + distance[..., None] * directions
            inside = (np.abs(points[..., :2] - surface.centre) < surface.half).all(axis=-1)
            nearer = inside & (distance > 0) & (distance < depth)
            texels = (points[..., :2] * 90 + 512).astype(np.float32)
            colour = cv2.remap(
                skin, texels[..., 0], texels[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP
            )
            image, depth = np.where(nearer, colour, image), np.where(nearer, distance, depth)
        images.append(np.repeat(image.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1))
        depths.append(depth)
    return Scene(
        images=np.stack(images),
        intrinsics=np.stack([matrix] * len(images)),
        cam_from_world=cam_from_world,
        depth=np.stack(depths),
    )


def exact_points(scene: Scene, stride: int = 16) -> SparseDepth:
    y, x = np.mgrid[stride // 2 : HEIGHT : stride, stride // 2 : WIDTH : stride]
    positions = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
    return SparseDepth(
        positions_px=(positions,) * len(scene.images), depths=tuple(d[y, x].ravel() for d in scene.depth)
    )


def first_frames(scene: Scene, count: int) -> Scene:
    return Scene(
        images=scene.images[:count],
        intrinsics=scene.intrinsics[:count],
        cam_from_world=scene.cam_from_world[:count],
        depth=scene.depth[:count],
    )


def relative_error(maps: DenseMaps, scene: Scene) -> NDArray[np.float64]:
    return np.abs(maps.depth / scene.depth - 1)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return render((BACKGROUND, BOX), moving_sideways())


@pytest.fixture(scope="module")
def maps(scene: Scene) -> DenseMaps:
    return scene.dense(exact_points(scene))


def test_depth_of_a_slanted_plane_with_a_box_before_it(scene: Scene, maps: DenseMaps) -> None:
    error, measured = relative_error(maps, scene), maps.confidence >= 2
    assert measured.mean() > 0.85
    assert np.median(error[measured]) < 0.004
    assert (error[measured] > 0.05).mean() < 0.02


def test_box_stands_out_from_the_plane(scene: Scene, maps: DenseMaps) -> None:
    on_box = scene.depth[4] < 3.0
    core = cv2.erode(on_box.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    assert core.sum() > 300
    assert np.quantile(relative_error(maps, scene)[4][core], 0.95) < 0.02


def test_shapes_types_and_ranges(scene: Scene, maps: DenseMaps) -> None:
    assert maps.depth.shape == maps.confidence.shape == (FRAMES, HEIGHT, WIDTH)
    assert maps.depth.dtype == maps.confidence.dtype == np.float32
    assert np.isfinite(maps.depth).all()
    assert (maps.depth > 0).all()
    assert (maps.confidence >= 0).all()
    assert (maps.confidence <= 100).all()
    np.testing.assert_array_equal(maps.intrinsics, scene.intrinsics)


def test_confidence_orders_the_errors_and_has_their_size(scene: Scene, maps: DenseMaps) -> None:
    error, confidence = relative_error(maps, scene), maps.confidence
    bounds = np.quantile(confidence[confidence >= 2], [0.1, 0.9])
    doubtful = (confidence >= 2) & (confidence < bounds[0])
    assert np.quantile(error[doubtful], 0.9) > 2 * np.quantile(error[confidence > bounds[1]], 0.9)
    within_three_sigma = (error * confidence < 3)[confidence >= 2]
    assert within_three_sigma.mean() > 0.95


def test_agreement_with_the_points_is_reported(scene: Scene, maps: DenseMaps) -> None:
    assert maps.sparse_disagreement is not None
    assert maps.sparse_disagreement < 0.01
    points = exact_points(scene)
    wrong = SparseDepth(positions_px=points.positions_px, depths=tuple(1.2 * d for d in points.depths))
    reported = scene.dense(wrong).sparse_disagreement
    assert reported == pytest.approx(0.2, abs=0.02)


def test_range_is_found_without_points(scene: Scene) -> None:
    maps = scene.dense()
    measured = maps.confidence >= 2
    assert maps.sparse_disagreement is None
    assert measured.mean() > 0.85
    assert np.median(relative_error(maps, scene)[measured]) < 0.004


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_unit_of_the_poses_does_not_matter(scene: Scene, scale: float) -> None:
    few = first_frames(scene, 4)
    poses = few.cam_from_world.copy()
    poses[..., 3] *= scale
    got, want = replace(few, cam_from_world=poses).dense(), few.dense()
    agree = np.abs(got.depth / scale / want.depth - 1) < 1e-3
    assert agree.mean() > 0.99


def test_same_bytes_for_any_number_of_threads(scene: Scene) -> None:
    few = first_frames(scene, 5)
    before = cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            results.append(few.dense())
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    for other in results[1:]:
        assert other.depth.tobytes() == results[0].depth.tobytes()
        assert other.confidence.tobytes() == results[0].confidence.tobytes()


def test_arguments_are_not_written_to(scene: Scene) -> None:
    arrays = [scene.images[:3].copy(), scene.intrinsics[:3].copy(), scene.cam_from_world[:3].copy()]
    for array in arrays:
        array.setflags(write=False)
    dense_depth(*arrays)


def test_object_that_moves_by_itself_is_not_trusted(scene: Scene) -> None:
    patch = texture(np.random.default_rng(3))[:40, :40].astype(np.uint8)[..., None]
    images = scene.images.copy()
    for i, image in enumerate(images):
        image[10 + 8 * i : 50 + 8 * i, 60:100] = patch
    middle = replace(scene, images=images).dense(exact_points(scene))
    confidence = middle.confidence[4][46:78, 64:96]
    assert (confidence >= 2).mean() < 0.2
    assert (middle.confidence[4][:, 130:] >= 2).mean() > 0.8


def test_noise_is_not_trusted(scene: Scene) -> None:
    noise = np.random.default_rng(11).integers(0, 256, (*scene.images.shape[:3], 1), dtype=np.uint8)
    images = np.broadcast_to(noise, scene.images.shape)
    assert (replace(scene, images=images).dense(exact_points(scene)).confidence >= 2).mean() < 0.25


def test_plain_surface_is_not_trusted_to_be_where_its_surroundings_are(scene: Scene) -> None:
    on_box = scene.depth < 3.0
    images = np.where(on_box[..., None], 120, scene.images).astype(np.uint8)
    maps = replace(scene, images=images).dense(exact_points(scene))
    wrong = on_box & (relative_error(maps, scene) > 0.1)
    assert (maps.confidence[wrong] >= 2).mean() < 0.3
    assert (maps.confidence[~on_box] >= 2).mean() > 0.8


def test_pure_rotation_is_a_flat_guess() -> None:
    poses = np.zeros((5, 3, 4))
    poses[:, :, :3] = [yaw(np.deg2rad(1.5 * i)) for i in range(5)]
    turning = render((BACKGROUND,), poses)
    blind, guided = turning.dense(), turning.dense(exact_points(turning))
    for maps in (blind, guided):
        assert np.isfinite(maps.depth).all()
        assert (maps.depth > 0).all()
        assert maps.confidence.max() <= 0.01
    assert (blind.depth.reshape(len(poses), -1) == blind.depth[:, 0, :1]).all()
    assert np.median(relative_error(guided, turning)) < 0.05


def test_frames_of_a_stop_use_the_motion_before_it(scene: Scene) -> None:
    rows = [*range(FRAMES), *[FRAMES - 1] * 14]
    stopping = Scene(
        images=scene.images[rows],
        intrinsics=scene.intrinsics[rows],
        cam_from_world=scene.cam_from_world[rows],
        depth=scene.depth[rows],
    )
    maps = stopping.dense()
    assert (maps.confidence[-1] >= 2).mean() > 0.6
    assert np.median(relative_error(maps, stopping)[-1]) < 0.02


def test_standing_still_is_a_flat_guess(scene: Scene) -> None:
    still = replace(
        scene,
        images=scene.images[[0] * 4],
        intrinsics=scene.intrinsics[:4],
        cam_from_world=scene.cam_from_world[[0] * 4],
        depth=scene.depth[[0] * 4],
    )
    maps = still.dense()
    assert np.isfinite(maps.depth).all()
    assert maps.confidence.max() <= 0.01


def test_one_frame_is_a_flat_guess(scene: Scene) -> None:
    maps = dense_depth(scene.images[:1], scene.intrinsics[:1], scene.cam_from_world[:1])
    assert maps.depth.shape == (1, HEIGHT, WIDTH)
    assert maps.confidence.max() <= 0.01


@pytest.mark.parametrize("seed", range(4))
def test_senseless_cameras_and_images_give_a_finite_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(scale=0.3 if seed % 2 else 3.0, size=(4, 3))).as_matrix()
    poses = np.concatenate([rotations, rng.normal(scale=10.0 ** (3 * seed - 4), size=(4, 3, 1))], axis=-1)
    images = rng.integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    maps = dense_depth(images, np.stack([np.diag([60.0, 60.0, 1.0])] * 4), poses)
    assert np.isfinite(maps.depth).all()
    assert (maps.depth > 0).all()
    assert np.isfinite(maps.confidence).all()
    assert (maps.confidence >= 0).all()


def test_images_without_texture_are_not_trusted(scene: Scene) -> None:
    maps = replace(scene, images=np.full_like(scene.images, 90)).dense(exact_points(scene))
    assert np.isfinite(maps.depth).all()
    assert (maps.confidence >= 2).mean() < 0.02


def test_large_images_are_reduced_to_336_pixels(scene: Scene) -> None:
    large = np.stack([cv2.resize(i, (504, 336), interpolation=cv2.INTER_CUBIC) for i in scene.images[:3]])
    factor = np.array([504 / WIDTH, 336 / HEIGHT, 1.0])[:, None]
    maps = dense_depth(large, scene.intrinsics[:3] * factor, scene.cam_from_world[:3])
    assert maps.depth.shape == (3, 224, 336)
    np.testing.assert_allclose(
        maps.intrinsics, scene.intrinsics[:3] * (factor * [[336 / 504], [336 / 504], [1.0]])
    )
    truth = np.stack([cv2.resize(d, (336, 224)) for d in scene.depth[:3]])
    measured = maps.confidence >= 2
    assert np.median(np.abs(maps.depth / truth - 1)[measured]) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((3, 64, 64), np.uint8)}, "RGB"),
        ({"images": np.zeros((3, 64, 64, 3), np.float32)}, "RGB"),
        ({"intrinsics": np.zeros((2, 3, 3))}, "intrinsics"),
        ({"cam_from_submap": np.zeros((3, 4, 4))}, "cam_from_submap"),
        ({"cam_from_submap": np.full((3, 3, 4), np.nan)}, "finite"),
        ({"images": np.zeros((3, 8, 64, 3), np.uint8)}, "small"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, NDArray[np.generic]], message: str) -> None:
    arguments = {
        "images": np.zeros((3, 64, 64, 3), np.uint8),
        "intrinsics": np.stack([np.eye(3)] * 3),
        "cam_from_submap": np.zeros((3, 3, 4)),
        **change,
    }
    with pytest.raises(EstimationError, match=message):
        dense_depth(**arguments)


def test_points_of_other_frames_are_refused(scene: Scene) -> None:
    with pytest.raises(EstimationError, match="sparse"):
        dense_depth(
            scene.images[:3], scene.intrinsics[:3], scene.cam_from_world[:3], sparse=exact_points(scene)
        )
