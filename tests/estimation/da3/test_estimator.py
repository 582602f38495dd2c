"""The network as an estimator: what goes in, what comes out, and what happens when it talks nonsense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from da3stream.errors import ConfigError, DeviceMemoryError, EstimationError
from da3stream.estimation import GeometryEstimator
from da3stream.estimation.contract import check_prediction
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.checkpoint import empty_network
from da3stream.estimation.da3.conditioning import normalise_extrinsics
from da3stream.estimation.da3.config import PRESETS, NestedModelConfig
from da3stream.estimation.da3.estimator import (
    NO_CAMERA_FROM_RAYS,
    NO_GEOMETRY,
    PSEUDO_RANDOM,
    DA3Estimator,
    in_input_order,
)
from da3stream.estimation.da3.loading import load_network
from da3stream.geometry.camera import unproject
from da3stream.scene import KnownCameras, Prediction
from da3stream.transformer.attention import Attention, fused_attention
from tests.estimation.da3.networks import executing
from tests.estimation.da3.scripted import FOCAL_PX, ScriptedNestedNetwork, ScriptedNetwork, plain_result
from tests.estimation.da3.seeded_weights import normalise, seeded_images
from tests.estimation.da3.small_networks import small_nested

VIEWS, HEIGHT, WIDTH = 5, 28, 42
IMAGES = seeded_images(3, VIEWS, HEIGHT, WIDTH)
INDICES = np.arange(VIEWS)
PLAIN = {name: value[0].numpy() for name, value in plain_result(VIEWS, HEIGHT, WIDTH).items()}


def estimate(network: Any, known: KnownCameras | None = None, **options: Any) -> Prediction:
    estimator = DA3Estimator(network, device="cpu", name="tiny", **options)
    prediction = estimator.estimate(IMAGES, indices=INDICES, known_cameras=known)
    check_prediction(prediction, "tiny", VIEWS)
    assert np.isfinite(prediction.depth).all()
    assert (prediction.depth > 0).all()
    assert np.isfinite(prediction.confidence).all()
    assert (prediction.confidence >= 0).all()
    return prediction


def intrinsics(focal_px: float) -> np.ndarray:
    one = np.array([[focal_px, 0, WIDTH / 2 + 1], [0, focal_px, HEIGHT / 2 - 2], [0, 0, 1]])
    return np.tile(one, (VIEWS, 1, 1))


def poses(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    given = np.zeros((VIEWS, 3, 4))
    given[:, :, :3] = Rotation.random(VIEWS, rng=random).as_matrix()
    given[:, :, 3] = random.normal(size=(VIEWS, 3)) * 7
    return given


# What the network says ------------------------------------------------------------------------------------


def test_the_prediction_is_what_the_network_says(tiny: AnyViewNetwork) -> None:
    with torch.inference_mode():
        said = {name: value[0].numpy() for name, value in tiny(normalise(IMAGES)).items()}
    prediction = estimate(tiny)
    np.testing.assert_allclose(prediction.depth, said["depth"], rtol=1e-5)
    np.testing.assert_allclose(prediction.confidence, said["depth_conf"] - 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(prediction.cam_from_submap, said["extrinsics"], atol=1e-5)
    np.testing.assert_allclose(prediction.intrinsics, said["intrinsics"], rtol=1e-5)
    assert prediction.cam_from_submap.dtype == np.float64
    assert prediction.warnings == ()
    assert prediction.sky is None


def test_rotations_are_orthonormal_to_double_precision(tiny: AnyViewNetwork) -> None:
    rotation = estimate(tiny).cam_from_submap[:, :, :3]
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, 1, 2), np.tile(np.eye(3), (VIEWS, 1, 1)), atol=1e-14
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


def test_it_is_a_pure_function_and_fulfils_the_protocol(tiny: AnyViewNetwork) -> None:
    estimator = DA3Estimator(tiny, device="cpu", name="tiny")
    assert isinstance(estimator, GeometryEstimator)
    first = estimator.estimate(IMAGES, indices=INDICES)
    estimator.estimate(IMAGES[::-1], indices=INDICES)
    again = estimator.estimate(IMAGES, indices=INDICES + 100)
    for name in ("depth", "confidence", "cam_from_submap", "intrinsics", "descriptors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


@pytest.mark.parametrize("views", [1, 2])
def test_few_images(tiny: AnyViewNetwork, views: int) -> None:
    prediction = DA3Estimator(tiny, device="cpu", name="tiny").estimate(
        IMAGES[:views], indices=INDICES[:views]
    )
    check_prediction(prediction, "tiny", views)
    assert prediction.depth.shape == (views, HEIGHT, WIDTH)


@pytest.mark.parametrize("view", ["saddle_balanced", "middle", "first"])
def test_the_reference_view_reaches_the_network(view: str) -> None:
    network = ScriptedNetwork()
    estimate(network, reference_view=view)
    assert [call["ref_view_strategy"] for call in network.calls] == [view]


def test_the_ray_head(tiny: AnyViewNetwork) -> None:
    with torch.inference_mode():
        said = tiny(normalise(IMAGES), use_ray_pose=True)
    prediction = estimate(tiny, pose_head="ray")
    np.testing.assert_allclose(prediction.cam_from_submap, said["extrinsics"][0], atol=1e-5)
    np.testing.assert_allclose(
        prediction.intrinsics[:, [0, 1], 2], np.tile([WIDTH / 2, HEIGHT / 2], (VIEWS, 1))
    )
    assert np.abs(prediction.cam_from_submap - estimate(tiny).cam_from_submap).max() > 1e-3


def test_seeded_weights_are_warned_of(tiny: AnyViewNetwork) -> None:
    assert estimate(tiny, weights={"seed": 0}).warnings == (PSEUDO_RANDOM,)
    assert estimate(tiny, weights={"revision": None, "files": {}}).warnings == ()


def test_a_network_without_poses_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"da3mono-large has no poses.*da3stream depth.*--metric"):
        DA3Estimator(empty_network("da3mono-large"), device="cpu", name="da3mono-large")


# Metres and sky -------------------------------------------------------------------------------------------


def test_the_nested_network_is_metric_and_its_sky_is_never_used() -> None:
    activation = torch.zeros(1, VIEWS, HEIGHT, WIDTH)
    activation[0, 1, :10] = 0.8
    prediction = estimate(ScriptedNestedNetwork(sky=activation))
    assert prediction.is_metric
    assert prediction.sky is not None
    np.testing.assert_array_equal(prediction.sky, activation[0].numpy() > 0.5)
    np.testing.assert_array_equal(prediction.confidence == 0, prediction.sky)


def test_a_nested_network_gives_metres_and_a_sky(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny: Any = PRESETS["tiny"]
    metric = replace(tiny, name="tiny-metric", alternation_start=None)
    monkeypatch.setitem(PRESETS, "nested", NestedModelConfig(name="nested", any_view=tiny, metric=metric))
    network = load_network("nested", weights="seeded:0")
    with torch.inference_mode():
        said = network(normalise(IMAGES))
    prediction = estimate(network)
    assert prediction.is_metric
    assert prediction.sky is not None
    assert 0 < prediction.sky.mean() < 1
    np.testing.assert_array_equal(prediction.sky, said["sky"][0].numpy() >= 0.3)
    np.testing.assert_array_equal(prediction.confidence > 0, ~prediction.sky)
    np.testing.assert_allclose(prediction.depth, said["depth"][0], rtol=1e-5)
    np.testing.assert_allclose(prediction.cam_from_submap, said["extrinsics"][0], atol=1e-5)


def test_a_sky_may_come_as_a_mask() -> None:
    mask = torch.zeros(1, VIEWS, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 2, 3, 4] = True
    prediction = estimate(ScriptedNestedNetwork(sky=mask))
    np.testing.assert_array_equal(prediction.sky, mask[0].numpy())


def test_the_lowest_confidence_of_the_network_is_never_to_be_used() -> None:
    confidence = torch.full((1, VIEWS, HEIGHT, WIDTH), 3.0)
    confidence[0, 0, 0, 0] = 1.0
    prediction = estimate(ScriptedNestedNetwork(depth_conf=confidence))
    assert prediction.confidence[0, 0, 0] == 0
    assert (prediction.confidence > 0).sum() == confidence.numel() - 1


# Descriptors ----------------------------------------------------------------------------------------------


def test_descriptors_are_mean_patches_of_unit_length(tiny: AnyViewNetwork) -> None:
    with torch.inference_mode():
        said = tiny(normalise(IMAGES), ref_view_strategy="first", export_feat_layers=(5,))
    mean = said["feat_layer_5"][0].mean(dim=(1, 2)).numpy()
    found = estimate(tiny, reference_view="first").descriptors
    assert found is not None
    assert (found.shape, found.dtype) == ((VIEWS, 64), np.float32)
    np.testing.assert_allclose(
        found, mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("reference", range(VIEWS))
def test_descriptors_follow_the_images(reference: int) -> None:
    order = [reference, *(view for view in range(VIEWS) if view != reference)]
    assert in_input_order(torch.tensor(order), reference).tolist() == list(range(VIEWS))
    features = plain_result(VIEWS, HEIGHT, WIDTH)["feat_layer_5"]
    moved = ScriptedNetwork(feat_layer_5=features[:, order], reference=torch.tensor([reference]))
    np.testing.assert_allclose(
        estimate(moved).descriptors, estimate(ScriptedNetwork()).descriptors, atol=1e-6
    )


def test_the_network_s_reference_is_undone_in_descriptors(tiny: AnyViewNetwork) -> None:
    """The same views with the same reference, which stands in the middle once and in front once."""
    order = [2, 0, 1, 3, 4]
    middle = estimate(tiny, reference_view="middle").descriptors
    estimator = DA3Estimator(tiny, device="cpu", name="tiny", reference_view="first")
    first = estimator.estimate(IMAGES[order], indices=INDICES).descriptors
    assert middle is not None
    np.testing.assert_allclose(first, middle[order], atol=1e-5)
    assert np.abs(middle[0] - middle[2]).max() > 1e-3


# Known cameras --------------------------------------------------------------------------------------------


def test_intrinsics_and_poses_together_condition_the_network_and_come_back() -> None:
    network, given = ScriptedNetwork(), KnownCameras(intrinsics=intrinsics(50.0), cam_from_world=poses())
    prediction = estimate(network, given)
    (call,) = network.calls
    np.testing.assert_allclose(call["extrinsics"][0], normalise_extrinsics(poses()), atol=1e-5)
    np.testing.assert_allclose(call["intrinsics"][0], intrinsics(50.0))
    np.testing.assert_allclose(prediction.cam_from_submap, poses(), atol=1e-12)
    np.testing.assert_array_equal(prediction.intrinsics, intrinsics(50.0))
    assert prediction.warnings == ()


def test_given_poses_give_depth_their_unit() -> None:
    """The predicted cameras, seven times as large and moved: depth becomes seven times as large, too."""
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    given = PLAIN["extrinsics"].astype(np.float64)
    given[:, :, 3] = 7 * given[:, :, 3] - given[:, :, :3] @ turn @ [1.0, 2.0, 3.0]
    given[:, :, :3] = given[:, :, :3] @ turn
    for known in (
        KnownCameras(cam_from_world=given),
        KnownCameras(cam_from_world=given, intrinsics=intrinsics(FOCAL_PX)),
    ):
        prediction = estimate(ScriptedNestedNetwork(), known)
        np.testing.assert_allclose(prediction.depth, 7 * PLAIN["depth"], rtol=1e-4)
        np.testing.assert_allclose(prediction.cam_from_submap, given, atol=1e-9)
        assert not prediction.is_metric


def test_poses_alone_do_not_condition_the_network() -> None:
    network = ScriptedNetwork()
    prediction = estimate(network, KnownCameras(cam_from_world=poses()))
    assert network.calls[0]["extrinsics"] is None
    np.testing.assert_allclose(prediction.cam_from_submap, poses(), atol=1e-12)
    np.testing.assert_allclose(prediction.intrinsics, PLAIN["intrinsics"])


def test_intrinsics_alone_stretch_depth_and_leave_what_is_lateral() -> None:
    network, given = ScriptedNestedNetwork(), intrinsics(2 * FOCAL_PX)
    prediction = estimate(network, KnownCameras(intrinsics=given))
    assert network.calls[0]["intrinsics"] is None
    assert prediction.is_metric
    np.testing.assert_array_equal(prediction.intrinsics, given)
    np.testing.assert_allclose(prediction.depth, 2 * PLAIN["depth"], rtol=1e-6)
    np.testing.assert_allclose(prediction.cam_from_submap, PLAIN["extrinsics"], atol=1e-6)
    before = unproject(PLAIN["depth"][0], PLAIN["intrinsics"][0])
    after = unproject(prediction.depth[0], prediction.intrinsics[0])
    shift = after[:, :, :2] - before[:, :, :2]
    expected = -np.array([1.0, -2.0]) / (2 * FOCAL_PX) * after[:, :, 2:]  # of the principal point
    np.testing.assert_allclose(shift, expected, atol=1e-5)


@pytest.mark.parametrize("with_intrinsics", [True, False])
def test_poses_that_do_not_move_are_answered_with_the_prediction(with_intrinsics: bool) -> None:
    still = np.tile(np.eye(3, 4), (VIEWS, 1, 1))
    given = KnownCameras(cam_from_world=still, intrinsics=intrinsics(50.0) if with_intrinsics else None)
    prediction = estimate(ScriptedNetwork(), given)
    np.testing.assert_allclose(prediction.cam_from_submap, PLAIN["extrinsics"], atol=1e-6)
    np.testing.assert_allclose(prediction.depth, PLAIN["depth"])
    assert any("the given poses fix no scale" in warning for warning in prediction.warnings)


def test_one_image_with_known_cameras(tiny: AnyViewNetwork) -> None:
    given = KnownCameras(cam_from_world=poses()[:1], intrinsics=intrinsics(50.0)[:1])
    estimator = DA3Estimator(tiny, device="cpu", name="tiny")
    prediction = estimator.estimate(IMAGES[:1], indices=INDICES[:1], known_cameras=given)
    np.testing.assert_array_equal(prediction.intrinsics, intrinsics(50.0)[:1])
    assert len(prediction.warnings) == 1


@pytest.mark.parametrize(
    ("frames", "known", "complaint"),
    [
        (VIEWS - 1, None, "indices': 4.*expected 5 of each"),
        (VIEWS, KnownCameras(intrinsics=intrinsics(9.0)[:2]), "intrinsics': 2"),
        (VIEWS, KnownCameras(cam_from_world=poses()[:3]), "poses': 3"),
    ],
)
def test_arrays_that_do_not_belong_together(frames: int, known: KnownCameras | None, complaint: str) -> None:
    estimator = DA3Estimator(ScriptedNetwork(), device="cpu", name="tiny")
    with pytest.raises(EstimationError, match=complaint):
        estimator.estimate(IMAGES, indices=INDICES[:frames], known_cameras=known)


# Features that are kept ---------------------------------------------------------------------------------


CHUNKS = ([0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [6, 5, 7, 8])
"""Frames; the last chunk is of another size, and not in order."""
CLIP = seeded_images(5, 9, HEIGHT, WIDTH)
ARRAYS = ("depth", "confidence", "cam_from_submap", "intrinsics", "sky", "descriptors")


def estimate_chunks(network: Any, known: KnownCameras | None = None, **options: Any) -> list[Prediction]:
    """Of one estimator, which may remember the chunks before."""
    estimator = DA3Estimator(network, device="cpu", name="tiny", **options)
    predictions = []
    for frames in CHUNKS:
        some = None
        if known is not None:
            some = KnownCameras(
                cam_from_world=known.cam_from_world[: len(frames)],  # type: ignore[index]
                intrinsics=known.intrinsics[: len(frames)],  # type: ignore[index]
            )
        predictions.append(estimator.estimate(CLIP[frames], indices=np.array(frames), known_cameras=some))
    return predictions


def assert_equal_bits(found: Prediction, expected: Prediction) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.warnings == expected.warnings


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, None),
        ({"pose_head": "ray"}, None),
        ({"reference_view": "middle"}, KnownCameras(cam_from_world=poses(), intrinsics=intrinsics(50.0))),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_kept_features_change_no_bit(
    tiny: AnyViewNetwork, nested: bool, options: dict[str, Any], known: KnownCameras | None
) -> None:
    network = small_nested() if nested else tiny
    plain = estimate_chunks(network, known, **options)
    kept = estimate_chunks(network, known, **options, reuse_features=True)
    for found, expected in zip(kept, plain, strict=True):
        assert_equal_bits(found, expected)


def test_a_shared_frame_goes_through_the_early_blocks_once(
    tiny: AnyViewNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_view, seen = AnyViewNetwork.per_view, []

    def counted(self: AnyViewNetwork, images: Tensor) -> dict[str, Tensor]:
        seen.append(len(images))
        return per_view(self, images)

    monkeypatch.setattr(AnyViewNetwork, "per_view", counted)
    estimate_chunks(tiny)
    assert seen == []
    estimate_chunks(tiny, reuse_features=True)
    assert sum(seen) == len(CLIP) < sum(map(len, CHUNKS))


def test_a_resumed_run_starts_with_nothing_kept_and_gives_the_same_chunk(tiny: AnyViewNetwork) -> None:
    with executing(tiny, views=2):
        *_, last = estimate_chunks(tiny, reuse_features=True)
        resumed = DA3Estimator(tiny, device="cpu", name="tiny", reuse_features=True)
        frames = CHUNKS[-1]
        assert_equal_bits(resumed.estimate(CLIP[frames], indices=np.array(frames)), last)


def test_features_are_kept_where_rays_fit_no_camera(
    tiny: AnyViewNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pass is given what the first has changed in place, made anew."""
    plain = estimate_chunks(tiny)
    forward = AnyViewNetwork.forward

    def no_rays(self: AnyViewNetwork, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        result = forward(self, *arguments, **options)
        if options["use_ray_pose"]:
            raise EstimationError("no fit")
        return result

    monkeypatch.setattr(AnyViewNetwork, "forward", no_rays)
    kept = estimate_chunks(tiny, pose_head="ray", reuse_features=True)
    for found, expected in zip(kept, plain, strict=True):
        assert found.warnings == (NO_CAMERA_FROM_RAYS,)
        np.testing.assert_array_equal(found.depth, expected.depth)


# Full memory ----------------------------------------------------------------------------------------------


def attention_with_room_for(heads: int) -> Attention:
    """For so few heads at a time in a block that sees all views; with more, memory is full."""
    tokens_alone = 1 + (HEIGHT // 14) * (WIDTH // 14)

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if queries.shape[2] > tokens_alone and queries.shape[1] > heads:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")
        return fused_attention(queries, keys, values)

    return attend


@pytest.mark.parametrize("options", [{}, {"reuse_features": True}, {"pose_head": "ray"}])
def test_full_memory_makes_the_pieces_smaller_and_says_so(
    tiny: AnyViewNetwork, options: dict[str, Any]
) -> None:
    with executing(tiny, heads=2):
        expected = estimate_chunks(tiny, **options)
    with executing(tiny, heads=8, attention=attention_with_room_for(heads=2)):
        found = estimate_chunks(tiny, **options)
        assert tiny.execution.heads == 2
    of_memory, *others = found[0].warnings
    assert of_memory.startswith("out of GPU memory: the network now works on 1 frame")
    assert of_memory.endswith("and 2 attention heads at a time")
    assert_equal_bits(replace(found[0], warnings=tuple(others)), expected[0])
    for later, as_expected in zip(found[1:], expected[1:], strict=True):
        assert_equal_bits(later, as_expected)


@pytest.mark.parametrize("pose_head", ["camera", "ray"])
@pytest.mark.parametrize("reuse_features", [False, True])
def test_memory_that_never_suffices_is_no_missing_geometry(
    tiny: AnyViewNetwork, pose_head: str, reuse_features: bool
) -> None:
    with (
        executing(tiny, attention=attention_with_room_for(heads=0)),
        pytest.raises(DeviceMemoryError, match=r"5 frames of 42 x 28 pixels: CUDA out of memory"),
    ):
        estimate(tiny, pose_head=pose_head, reuse_features=reuse_features)


@pytest.mark.parametrize("pose_head", ["camera", "ray"])
def test_an_error_of_the_memory_passes_through(pose_head: str) -> None:
    """It is an EstimationError, too; those mean that there is no geometry."""

    class Full(ScriptedNetwork):
        def answer(self, images: Tensor, **options: Any) -> dict[str, Tensor]:
            super().answer(images, **options)
            raise DeviceMemoryError("full")

    network = Full()
    with pytest.raises(DeviceMemoryError, match="full"):
        estimate(network, pose_head=pose_head)
    assert len(network.calls) == 1


def test_after_full_memory_a_shorter_chunk_goes_on_in_small_pieces(tiny: AnyViewNetwork) -> None:
    """What the pipeline does with a chunk that cannot be had."""
    tokens_of_3 = 3 * (1 + (HEIGHT // 14) * (WIDTH // 14))

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if queries.shape[2] > tokens_of_3:
            raise torch.OutOfMemoryError("full")
        return fused_attention(queries, keys, values)

    with executing(tiny, attention=attend):
        estimator = DA3Estimator(tiny, device="cpu", name="tiny", reuse_features=True)
        with pytest.raises(DeviceMemoryError):
            estimator.estimate(IMAGES, indices=INDICES)
        found = estimator.estimate(IMAGES[:3], indices=INDICES[:3])
        assert estimator.execution == {"views": 1, "head_views": 1, "heads": 1}
    with executing(tiny, heads=1):
        plain = DA3Estimator(tiny, device="cpu", name="tiny").estimate(IMAGES[:3], indices=INDICES[:3])
    assert_equal_bits(found, plain)


def test_the_pieces_of_another_run_are_taken_over(tiny: AnyViewNetwork) -> None:
    with executing(tiny):
        estimator = DA3Estimator(tiny, device="cpu", name="tiny")
        assert estimator.execution == {"views": 1, "head_views": 1, "heads": 8}
        estimator.execution = {"views": 4, "head_views": 2, "heads": 1}
        assert (tiny.execution.views, tiny.execution.head_views, tiny.execution.heads) == (4, 2, 1)
        assert tiny.execution.attention is fused_attention
        assert estimator.execution == {"views": 4, "head_views": 2, "heads": 1}


# Nonsense -------------------------------------------------------------------------------------------------


def test_rays_that_fit_no_camera_leave_the_camera_head() -> None:
    network = ScriptedNetwork(fails_with_rays=True)
    prediction = estimate(network, pose_head="ray")
    assert [call["use_ray_pose"] for call in network.calls] == [True, False]
    assert prediction.warnings == (NO_CAMERA_FROM_RAYS,)
    np.testing.assert_allclose(prediction.depth, PLAIN["depth"])


@pytest.mark.parametrize("known", [None, KnownCameras(cam_from_world=poses(), intrinsics=intrinsics(50.0))])
def test_a_chunk_without_geometry_is_left_out(known: KnownCameras | None) -> None:
    prediction = estimate(ScriptedNestedNetwork(fails=True), known)
    assert prediction.warnings[0] == NO_GEOMETRY
    assert not prediction.confidence.any()
    assert prediction.descriptors is not None
    np.testing.assert_array_equal(prediction.descriptors, np.zeros((VIEWS, 64), np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, 1e30, 1e-30])
@pytest.mark.parametrize("known", [None, KnownCameras(cam_from_world=poses(), intrinsics=intrinsics(50.0))])
def test_depth_that_cannot_be_is_not_used(value: float, known: KnownCameras | None) -> None:
    depth = torch.from_numpy(PLAIN["depth"].copy())[None]
    depth[0, 1] = value
    prediction = estimate(ScriptedNetwork(depth=depth), known)
    np.testing.assert_array_equal((prediction.confidence > 0).all((1, 2)), np.arange(VIEWS) != 1)
    assert not prediction.confidence[1].any()
    assert len(prediction.warnings) == 1
    assert "depth" in prediction.warnings[0]


def test_a_few_bad_pixels_are_no_news() -> None:
    depth = torch.from_numpy(PLAIN["depth"].copy())[None]
    depth[0, 1, 2, 3] = float("nan")
    prediction = estimate(ScriptedNetwork(depth=depth))
    assert prediction.confidence[1, 2, 3] == 0
    assert prediction.warnings == ()


def test_depth_without_a_usable_pixel() -> None:
    prediction = estimate(ScriptedNetwork(depth=torch.full((1, VIEWS, HEIGHT, WIDTH), float("nan"))))
    assert not prediction.confidence.any()


@pytest.mark.parametrize("name", ["extrinsics", "intrinsics"])
def test_a_camera_that_is_not_finite_becomes_its_neighbour_s(name: str) -> None:
    broken = torch.from_numpy(PLAIN[name].copy())[None]
    broken[0, 3:, 0, 0] = float("nan")
    prediction = estimate(ScriptedNetwork(**{name: broken}))
    np.testing.assert_allclose(prediction.cam_from_submap[3:], PLAIN["extrinsics"][[2, 2]], atol=1e-6)
    assert not prediction.confidence[3:].any()
    assert (prediction.confidence[:3] > 0).all()
    assert len(prediction.warnings) == 1
    assert "neighbouring frame" in prediction.warnings[0]


def test_without_a_finite_camera_the_chunk_is_left_out() -> None:
    prediction = estimate(ScriptedNetwork(extrinsics=torch.full((1, VIEWS, 3, 4), float("inf"))))
    assert not prediction.confidence.any()
    assert "the chunk is left out" in prediction.warnings[0]


@pytest.mark.parametrize("focal", [0.0, -30.0, 2e7, 1e-9])
def test_a_focal_length_that_cannot_be_is_limited(focal: float) -> None:
    broken = torch.from_numpy(PLAIN["intrinsics"].copy())[None]
    broken[0, 2, 0, 0] = broken[0, 2, 1, 1] = focal
    prediction = estimate(ScriptedNetwork(intrinsics=broken))
    limited = prediction.intrinsics[2, 0, 0] / max(WIDTH, HEIGHT)
    assert limited == pytest.approx(20.0 if focal > 1 else 0.05)
    assert prediction.intrinsics[1, 0, 0] == FOCAL_PX
    assert len(prediction.warnings) == 1
    assert "focal length" in prediction.warnings[0]


def test_everything_at_once_with_known_cameras() -> None:
    nan = float("nan")
    network = ScriptedNetwork(
        depth=torch.full((1, VIEWS, HEIGHT, WIDTH), nan),
        depth_conf=torch.full((1, VIEWS, HEIGHT, WIDTH), nan),
        extrinsics=torch.full((1, VIEWS, 3, 4), nan),
        intrinsics=torch.full((1, VIEWS, 3, 3), nan),
        feat_layer_5=torch.full((1, VIEWS, 2, 3, 8), nan),
    )
    prediction = estimate(network, KnownCameras(cam_from_world=poses(), intrinsics=intrinsics(50.0)))
    assert not prediction.confidence.any()
    assert np.isfinite(prediction.descriptors).all()  # type: ignore[call-overload]
