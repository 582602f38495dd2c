"""Place descriptors of whole runs: which are made, and that interruptions leave no trace in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame, Prediction, load_config
from da3stream.errors import EstimationError, RunMismatchError
from da3stream.estimation.classical import ClassicalEstimator
from da3stream.place import choice, describing
from da3stream.place.vlad import VladDescriptor
from da3stream.place.vocabulary import VladVocabulary
from da3stream.store import open_existing
from da3stream.store.journal import Journal
from da3stream.store.places import VOCABULARY
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld

from .doubles import FRAMES, CountingEstimator, stored_chunks

FINE = {"colmap_points": "dense", "chunk_size": 16, "overlap": 8, "coarse": 0, "loop_budget": 0}
"""No chunks but those that own frames: the others have tests of their own."""
TRAINED_AFTER = 30
"""Frames, instead of TRAINING_FRAMES: chunks 0 to 2 of `config` wait for the vocabulary, later ones do not.
"""


class TalkingEstimator(CountingEstimator):
    """Describes its frames, too."""

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
        said = np.random.default_rng(4).normal(size=(FRAMES, 32))[indices].astype(np.float32)
        return replace(prediction, descriptors=said)


class PlainSource:
    """Frames without any texture."""

    def __iter__(self) -> Any:
        for index in range(FRAMES):
            image = np.full((42, 126, 3), 60 + index, np.uint8)
            yield Frame(index=index, source_index=index, timestamp_s=index / 10, image=image)

    def size_hint(self) -> int | None:
        return FRAMES

    def identity(self) -> str:
        return "plain"


@pytest.fixture
def config() -> Config:
    return load_config(None, FINE)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "TRAINING_FRAMES", TRAINED_AFTER)


def place_files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for folder in ("descriptors", "place")
        for path in sorted((run / folder).glob("*"))
    }


def events(run: Path, *names: str) -> list[Mapping[str, Any]]:
    lines = (run / "journal.jsonl").read_bytes().splitlines()
    return [event for line in lines if (event := json.loads(line[9:]))["event"] in names]


def place_of(run: Path) -> str:
    name: str = json.loads((run / "run.json").read_text())["place"]
    return name


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> dict[str, bytes]:
    """The files of an uninterrupted run by `config`."""
    run = tmp_path_factory.mktemp("whole") / "run"
    config = load_config(None, FINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describing, "TRAINING_FRAMES", TRAINED_AFTER)
        da3stream.reconstruct(
            SimulatedSource(world), run, config=config, estimator=CountingEstimator(world, level=1.0)
        )
    return place_files(run)


# What is made ---------------------------------------------------------------------------------------------


def test_vlad_describes_every_frame_once_in_the_pass(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    result = da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))
    assert place_of(tmp_path) == "vlad"
    assert result.warnings == ()
    images = [frame.image for frame in source]
    features = [VladDescriptor.local_features(image) for image in images]
    vocabulary = VladVocabulary.train(features[:TRAINED_AFTER])
    vectors = VladDescriptor(vocabulary).describe_features(features, indices=np.arange(FRAMES))
    run = open_existing(tmp_path)
    stored = [run.descriptors(index) for index in range(len(run.chunks))]
    np.testing.assert_array_equal(run.vocabulary(), vocabulary.centres)
    run.close()
    np.testing.assert_allclose(np.concatenate([d for d in stored if d is not None]), vectors, atol=1e-3)


def test_the_vocabulary_comes_before_the_descriptors_and_late_chunks_do_not_wait(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))
    order = [
        f"{event['event']} {event.get('index', '')}".strip()
        for event in events(tmp_path, "chunk", "descriptors", "vocabulary")
    ]
    waited = ["chunk 0", "chunk 1", "chunk 2", "vocabulary", *(f"descriptors {k}" for k in range(3))]
    assert order[:9] == [*waited, "chunk 3", "descriptors 3"]


@pytest.mark.parametrize("options", [{"loop": False}, {"place": "none"}])
def test_nothing_is_described_if_nothing_needs_it(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, options: dict[str, Any]
) -> None:
    config = load_config(None, {**FINE, **options})
    da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))
    assert (place_of(tmp_path), place_files(tmp_path)) == ("none", {})


def test_a_descriptor_object_describes_even_without_loops(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {**FINE, "loop": False})
    descriptor = SimulatedDescriptor(world)
    da3stream.reconstruct(
        source, tmp_path, config=config, estimator=CountingEstimator(world), descriptor=descriptor
    )
    assert place_of(tmp_path) == "simulated"
    assert len(place_files(tmp_path)) == len(events(tmp_path, "chunk"))


def test_the_estimator_s_own_descriptors(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {**FINE, "place": "backbone"})
    da3stream.reconstruct(source, tmp_path, config=config, estimator=TalkingEstimator(world))
    said = np.random.default_rng(4).normal(size=(FRAMES, 32))
    run = open_existing(tmp_path)
    stored = [run.descriptors(index) for index in range(len(run.chunks))]
    run.close()
    expected = said / np.linalg.norm(said, axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate([d for d in stored if d is not None]), expected, atol=1e-3)


def test_an_estimator_that_does_not_describe_is_an_error_with_backbone(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {**FINE, "place": "backbone"})
    with pytest.raises(EstimationError, match=r"--place backbone needs a network.*'counting'.*da3-base"):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))


@pytest.mark.parametrize("metric", [None, "da3metric-large"])
def test_backbone_with_our_classical_estimator_is_refused_before_there_is_a_run(
    tmp_path: Path, source: SimulatedSource, monkeypatch: pytest.MonkeyPatch, metric: str | None
) -> None:
    monkeypatch.setattr("da3stream.estimation._in_metres", lambda estimator, *_: estimator)
    monkeypatch.setattr(ClassicalEstimator, "estimate", pytest.fail)
    config = load_config(None, {**FINE, "place": "backbone", "model": "classical", "metric": metric})
    with pytest.raises(EstimationError, match=r"--place backbone needs a network.*'classical.*da3-base"):
        da3stream.reconstruct(source, tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_a_video_without_texture_is_a_warning_that_a_resumed_run_repeats(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    def stop(progress: da3stream.Progress) -> None:
        if progress.stage == "outputs":
            raise KeyboardInterrupt

    estimator = CountingEstimator(world)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(PlainSource(), tmp_path, config=config, estimator=estimator, progress=stop)
    again = CountingEstimator(world)
    result = da3stream.reconstruct(PlainSource(), tmp_path, config=config, estimator=again, resume=True)
    assert again.chunks == []
    (warning,) = [said for said in result.warnings if "no loops" in said]
    assert warning.startswith("no loops are looked for: the frames show too little texture")
    assert len(events(tmp_path, "no_places")) == 1
    assert place_files(tmp_path) == {}


# Interruptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupted_at", [0, 1, 2, 3, 5])
def test_a_run_killed_while_frames_wait_or_later_ends_the_same(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    interrupted_at: int,
    expected: dict[str, bytes],
) -> None:
    killed = CountingEstimator(world, level=1.0, fail_at=interrupted_at)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=killed)
    again = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=again, resume=True)
    assert place_files(tmp_path) == expected
    assert len(events(tmp_path, "chunk")) == len(events(tmp_path, "descriptors")) == len(expected) - 1


@pytest.mark.parametrize(
    ("event", "index"),
    [
        ("vocabulary", None),
        ("descriptors", 0),
        ("descriptors", 1),
        ("descriptors", 4),
        ("end_of_stream", None),
    ],
)
def test_a_run_killed_at_a_journal_line_ends_the_same(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    event: str,
    index: int | None,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is there, its line is not. No chunk is estimated twice for it."""
    append = Journal.append

    def append_or_die(self: Journal, /, **fields: Any) -> None:
        if fields["event"] == event and fields.get("index") == index:
            raise KeyboardInterrupt
        append(self, **fields)

    first, second = CountingEstimator(world, level=1.0), CountingEstimator(world, level=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(
            Journal, "append", lambda self, event, **fields: append_or_die(self, event=event, **fields)
        )
        with pytest.raises(KeyboardInterrupt):
            da3stream.reconstruct(source, tmp_path, config=config, estimator=first)
    stored = stored_chunks(tmp_path)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert place_files(tmp_path) == expected
    assert len(stored) + len(second.chunks) == len(expected) - 1
    assert not stored & set(second.chunks)


@pytest.mark.parametrize("file", ["descriptors/000001.safetensors", "descriptors/000005.safetensors"])
@pytest.mark.parametrize("stopped", ["early", "late"])
def test_a_lost_descriptor_file_is_made_anew_without_an_estimate(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    file: str,
    stopped: str,
    expected: dict[str, bytes],
) -> None:
    """With the stored vocabulary, whether the source had ended or not."""

    def stop(progress: da3stream.Progress) -> None:
        if progress.stage == "outputs" or (stopped == "early" and progress.chunk == 7):
            raise KeyboardInterrupt

    first, second = CountingEstimator(world, level=1.0), CountingEstimator(world, level=1.0)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=first, progress=stop)
    stored = stored_chunks(tmp_path)
    (tmp_path / file).unlink()
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert place_files(tmp_path) == expected
    assert len(stored) + len(second.chunks) == len(expected) - 1
    assert not stored & set(second.chunks)
    assert len(events(tmp_path, "vocabulary")) == 1


def test_a_lost_vocabulary_is_learnt_again(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    expected: dict[str, bytes],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0, fail_at=5)
        )
    (tmp_path / VOCABULARY).write_bytes(b"torn")
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert place_files(tmp_path) == expected


def test_a_lost_descriptor_of_the_estimator_needs_its_estimate(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {**FINE, "place": "backbone"})
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=TalkingEstimator(world, fail_at=4))
    lost = tmp_path / "descriptors" / "000002.safetensors"
    good = lost.read_bytes()
    lost.unlink()
    second = TalkingEstimator(world)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert lost.read_bytes() == good
    assert [chunk[-1] for chunk in second.chunks][:2] == [31, 47], "chunk 2, and 4 that was killed"


def test_what_is_stored_is_not_made_again(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    class Counting(SimulatedDescriptor):
        described = 0

        def describe(self, images: np.ndarray, *, indices: np.ndarray) -> np.ndarray:
            self.described += len(images)
            return super().describe(images, indices=indices)

    first, second = Counting(world), Counting(world)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world, fail_at=4), descriptor=first
        )
    for _ in range(2):
        da3stream.reconstruct(
            source,
            tmp_path,
            config=config,
            estimator=CountingEstimator(world),
            descriptor=second,
            resume=True,
        )
    assert first.described + second.described == FRAMES


def test_keeping_nothing_keeps_no_descriptors(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {**FINE, "keep": "none"})
    da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))
    assert place_files(tmp_path) == {}
    again = CountingEstimator(world)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=again, resume=True)
    assert again.chunks == []
    assert place_files(tmp_path) == {}


# The choice -----------------------------------------------------------------------------------------------


def test_auto_stays_what_it_was_when_weights_appear(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0, fail_at=4)
        )
    assert place_of(tmp_path) == "vlad"
    monkeypatch.setattr(choice, "find_salad", lambda: Path("dino_salad.ckpt"))
    monkeypatch.setattr("da3stream.equipment.runs_on_gpu", lambda _: True)
    da3stream.reconstruct(
        source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0), resume=True
    )
    assert place_files(tmp_path) == expected


def test_salad_is_loaded_for_a_new_run_and_never_for_a_finished_one(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from da3stream.place.salad.descriptor import SaladDescriptor

    loaded: list[str] = []

    def load(*, device: Any, notify: Any) -> SimulatedDescriptor:
        loaded.append(str(device))
        return SimulatedDescriptor(world)

    monkeypatch.setattr(SaladDescriptor, "load", load)
    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: False)
    monkeypatch.setattr("da3stream.equipment.runs_on_gpu", lambda _: True)
    monkeypatch.setattr(choice, "find_salad", lambda: Path("dino_salad.ckpt"))
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world, fail_at=2))
    assert (place_of(tmp_path), loaded) == ("salad", ["cpu"])
    monkeypatch.setattr(choice, "find_salad", lambda: None)
    for resumed in range(2):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world), resume=True
        )
        assert loaded == ["cpu"] * 2, f"resumed {resumed} times"


class WeighedDescriptor(SimulatedDescriptor):
    """Has weights, and takes memory of the device."""

    def __init__(self, world: SimulatedWorld, seed: int) -> None:
        super().__init__(world)
        self.weights = {"seed": seed}

    def device_bytes(self) -> int:
        return 12345


@pytest.fixture
def salad_of_seed(world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on, `salad` is a simulated descriptor with weights of this seed."""
    from da3stream.place.salad.descriptor import SaladDescriptor

    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: False)

    def install(seed: int) -> None:
        monkeypatch.setattr(SaladDescriptor, "load", lambda **_: WeighedDescriptor(world, seed))

    return install


def test_other_weights_of_salad_do_not_continue_a_run(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, salad_of_seed: Callable[[int], None]
) -> None:
    config = load_config(None, {**FINE, "place": "salad"})
    salad_of_seed(5)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world, fail_at=2))
    assert json.loads((tmp_path / "run.json").read_text())["place_weights"] == {"seed": 5}
    salad_of_seed(6)
    again = CountingEstimator(world)
    with pytest.raises(RunMismatchError, match=r"other weights of salad; got \{'seed': 6\}.*\{'seed': 5\}"):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=again, resume=True)
    assert again.chunks == []
    salad_of_seed(5)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=again, resume=True)
    salad_of_seed(6)  # a finished run asks nobody
    da3stream.reconstruct(source, tmp_path, config=config, estimator=again, resume=True)


def test_a_descriptor_without_weights_records_none(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    """Those of a user's object are the user's affair."""
    estimator, descriptor = CountingEstimator(world), WeighedDescriptor(world, 1)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=estimator, descriptor=descriptor)
    assert json.loads((tmp_path / "run.json").read_text())["place_weights"] is None


def test_another_descriptor_refuses(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world, fail_at=1))
    other = load_config(None, {**FINE, "place": "none"})
    with pytest.raises(RunMismatchError, match=r"place \(was 'auto', now 'none'\)"):
        da3stream.reconstruct(source, tmp_path, config=other, estimator=CountingEstimator(world), resume=True)
    with pytest.raises(RunMismatchError, match=r"place descriptor \(was 'vlad', now 'simulated'\)"):
        da3stream.reconstruct(
            source,
            tmp_path,
            config=config,
            estimator=CountingEstimator(world),
            descriptor=SimulatedDescriptor(world),
            resume=True,
        )
