"""Descriptors chunk by chunk, whichever kind makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from da3stream.config import load_config
from da3stream.errors import EstimationError
from da3stream.place import choice, describing
from da3stream.place.choice import resolve_place
from da3stream.place.describing import (
    BackboneStage,
    DescribedChunk,
    DescribingStage,
    FramesToDescribe,
    ObjectStage,
    VladStage,
    unit_vectors,
)
from da3stream.place.vocabulary import VladVocabulary

HELD = 10
"""Stands for TRAINING_FRAMES."""


def pictures(count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (96, 72), interpolation=cv2.INTER_CUBIC) for image in noise])


def chunks(images: np.ndarray, size: int, predicted: np.ndarray | None = None) -> list[FramesToDescribe]:
    return [
        FramesToDescribe(
            chunk=number,
            images=images[start : start + size],
            indices=np.arange(start, min(start + size, len(images))),
            predicted=None if predicted is None else predicted[start : start + size],
        )
        for number, start in enumerate(range(0, len(images), size))
    ]


def everything(stage: DescribingStage, frames: list[FramesToDescribe]) -> dict[int, np.ndarray]:
    found: list[DescribedChunk] = [each for some in frames for each in stage.add(some)]
    found += stage.finish()
    assert [each.chunk for each in found] == sorted({each.chunk for each in found})
    return {each.chunk: each.vectors for each in found}


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "TRAINING_FRAMES", HELD)


# VLAD -----------------------------------------------------------------------------------------------------


def test_vlad_holds_frames_back_until_its_vocabulary_is_learnt() -> None:
    learnt: list[VladVocabulary] = []
    stage = VladStage(None, learnt.append)
    first, second, third, fourth = chunks(pictures(16), 4)
    assert (stage.add(first), stage.add(second), learnt) == ((), (), [])
    assert stage.needs_every_chunk
    described = stage.add(third)
    assert [each.chunk for each in described] == [0, 1, 2]
    assert len(learnt) == 1
    assert not stage.needs_every_chunk
    (last,) = stage.add(fourth)
    assert last.vectors.shape == (4, learnt[0].centres.size)
    assert stage.finish() == ()


def test_the_vocabulary_is_kept_before_anything_is_described_with_it() -> None:
    def killed(_: VladVocabulary) -> None:
        raise KeyboardInterrupt

    stage = VladStage(None, killed)
    with pytest.raises(KeyboardInterrupt):
        everything(stage, chunks(pictures(12), 4))


def test_a_short_video_is_described_at_its_end() -> None:
    stage = VladStage(None, lambda _: None)
    assert [stage.add(frames) for frames in chunks(pictures(6), 4)] == [(), ()]
    assert [each.chunk for each in stage.finish()] == [0, 1]


def test_vectors_do_not_depend_on_the_chunks() -> None:
    images = pictures(23)
    expected = np.concatenate(list(everything(VladStage(None, lambda _: None), chunks(images, 23)).values()))
    for size in (1, 4, 9):
        found = everything(VladStage(None, lambda _: None), chunks(images, size))
        np.testing.assert_array_equal(np.concatenate(list(found.values())), expected)


def test_vlad_goes_on_with_a_stored_vocabulary() -> None:
    images = pictures(23)
    learnt: list[VladVocabulary] = []
    whole = everything(VladStage(None, learnt.append), chunks(images, 4))
    stage = VladStage(learnt[0], pytest.fail)  # type: ignore[arg-type]
    assert not stage.needs_every_chunk
    again = everything(stage, chunks(images, 4)[1:])
    for chunk, vectors in again.items():
        np.testing.assert_array_equal(vectors, whole[chunk])


def test_a_dark_beginning_does_not_teach() -> None:
    """The vocabulary is that of the video without it; dark frames look like no other."""
    learnt: list[VladVocabulary] = []
    images = pictures(12)
    everything(VladStage(None, learnt.append), chunks(images, 4))
    dark = np.concatenate([np.zeros((2 * HELD, 72, 96, 3), np.uint8), images])
    found = everything(VladStage(None, learnt.append), chunks(dark, 4))
    np.testing.assert_array_equal(learnt[0].centres, learnt[1].centres)
    vectors = np.concatenate(list(found.values()))
    similarity = vectors[: 2 * HELD] @ vectors.T - np.eye(2 * HELD, len(vectors))
    assert np.abs(similarity).max() < 0.1


def test_a_video_without_texture_says_so_at_its_end() -> None:
    stage = VladStage(None, pytest.fail)  # type: ignore[arg-type]
    for frames in chunks(np.full((30, 72, 96, 3), 90, np.uint8), 4):
        assert stage.add(frames) == ()
    with pytest.raises(EstimationError, match="too little texture"):
        stage.finish()


# Objects --------------------------------------------------------------------------------------------------


class Brightness:
    """A descriptor of two values; can be told to break its contract."""

    name, dim = "brightness", 2

    def __init__(self, spoil: str = "") -> None:
        self.spoil = spoil

    def describe(self, images: np.ndarray, *, indices: np.ndarray) -> np.ndarray:
        angle = images.reshape(len(images), -1).mean(axis=1) / 100
        vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        match self.spoil:
            case "length":
                return vectors * 2
            case "nan":
                return np.where(np.arange(2) == 1, np.nan, vectors)
            case "shape":
                return vectors[:, :1]
        return vectors


def test_an_object_is_made_when_it_is_needed() -> None:
    made: list[Brightness] = []

    def load() -> Brightness:
        made.append(Brightness())
        return made[0]

    stage = ObjectStage(load)
    assert made == []
    images = pictures(6)
    found = everything(stage, chunks(images, 4))
    np.testing.assert_array_equal(
        np.concatenate([found[0], found[1]]), Brightness().describe(images, indices=np.arange(6))
    )


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ("length", "vector of length 2"),
        ("nan", "not finite"),
        ("shape", r"shape \(4, 1\); expected .* \(4, 2\)"),
    ],
)
def test_an_object_that_breaks_its_contract_is_an_error(spoil: str, complaint: str) -> None:
    stage = ObjectStage(lambda: Brightness(spoil))
    with pytest.raises(EstimationError, match=f"'brightness' broke its contract.*{complaint}"):
        stage.add(chunks(pictures(4), 4)[0])


# The estimator's own --------------------------------------------------------------------------------------


def test_what_the_estimator_said_is_taken_at_unit_length() -> None:
    said = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    found = everything(BackboneStage("da3-base"), chunks(pictures(6), 4, said))
    vectors = np.concatenate([found[0], found[1]])
    expected = said / np.linalg.norm(said, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32


def test_an_estimator_without_descriptors_is_an_error_that_says_which_has_them() -> None:
    stage = BackboneStage("classical")
    with pytest.raises(EstimationError, match=r"got the estimator 'classical'.*expected a da3 model"):
        stage.add(chunks(pictures(4), 4)[0])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_becomes_like_no_other(value: float) -> None:
    vectors = np.ones((3, 512), np.float32)
    vectors[1] = value
    units = unit_vectors(vectors, np.array([7, 8, 9]))
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-5)
    assert units[0] @ units[2] == pytest.approx(1)
    assert abs(units[0] @ units[1]) < 0.2
    assert abs(units[1] @ unit_vectors(vectors, np.array([7, 99, 9]))[1]) < 0.2


# The choice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "has_weights", "has_gpu", "expected"),
    [
        ({}, False, False, "vlad"),
        ({}, False, True, "vlad"),
        ({}, True, False, "vlad"),
        ({}, True, True, "salad"),
        ({"place": "salad"}, False, False, "salad"),
        ({"place": "vlad"}, True, True, "vlad"),
        ({"place": "backbone"}, True, True, "backbone"),
        ({"place": "none"}, True, True, "none"),
        ({"loop": False}, True, True, "none"),
        ({"loop": False, "place": "salad"}, True, True, "none"),
    ],
)
def test_which_descriptor_is_used(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], has_weights: bool, has_gpu: bool, expected: str
) -> None:
    monkeypatch.setattr(choice, "find_salad", lambda: Path("dino_salad.ckpt") if has_weights else None)
    assert resolve_place(load_config(None, options), lambda: has_gpu) == expected
