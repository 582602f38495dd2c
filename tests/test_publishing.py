"""What a subscriber hears of a run."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

import da3stream
from da3stream import load_config
from da3stream.errors import ConfigError, MissingDependencyError
from da3stream.publishing import Publisher
from da3stream.result import Update
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from tests.pipeline.doubles import CountingEstimator

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 20_000


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


class Subscriber:
    """A SUB socket that unpacks what it hears."""

    def __init__(self, address: str, queued: int = 1000) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.socket.set(zmq.RCVHWM, queued)
        self.socket.set(zmq.RCVTIMEO, PATIENCE_MS)
        self.socket.subscribe(b"")
        self.socket.connect(address)

    def hear(self) -> tuple[str, dict[str, Any]]:
        topic, body = self.socket.recv_multipart()
        return topic.decode(), msgpack.unpackb(body)

    def until_the_end(self) -> list[tuple[str, dict[str, Any]]]:
        heard = [self.hear()]
        while heard[-1][0] != "end":
            heard.append(self.hear())
        return heard

    def close(self) -> None:
        self.socket.close(linger=0)


def join(publisher: Publisher, address: str, queued: int = 1000) -> Subscriber:
    """A subscriber that the publisher has heard of."""
    subscriber = Subscriber(address, queued)
    assert publisher._socket.poll(PATIENCE_MS), "no connection"
    return subscriber


def array(packed: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(packed["data"], packed["dtype"]).reshape(packed["shape"])


def update(chunk: int, points: int = 3, corrected: tuple[int, ...] = ()) -> Update:
    """Two frames a chunk; every number tells the chunk it comes from."""
    return Update(
        chunk=chunk,
        frames=np.array([2 * chunk, 2 * chunk + 1]),
        timestamp_s=np.array([2 * chunk, 2 * chunk + 1]) / 10,
        world_from_cam=np.full((2, 4, 4), chunk, dtype=np.float64),
        corrections={frame: np.full((4, 4), 100.0 + chunk) for frame in corrected},
        points_in_world=np.full((points, 3), chunk, dtype=np.float32),
        colors=np.full((points, 3), chunk % 256, dtype=np.uint8),
    )


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def publisher(address: str) -> Iterator[Publisher]:
    with Publisher(address) as opened:
        yield opened


def test_a_subscriber_hears_every_update_of_a_run_as_it_was(address: str, tmp_path: Path) -> None:
    world = SimulatedWorld(street_laps(70), seed=7, size=(14, 42), hfov_deg=82)
    config = load_config(None, {"chunk_size": 16, "overlap": 8, "export": "tum"})
    told: list[Update] = []
    with Publisher(address) as publisher:
        subscriber = join(publisher, address)
        publisher.start(config.model_dump(mode="json"))
        for told_now in da3stream.stream(
            SimulatedSource(world), tmp_path, config=config, estimator=CountingEstimator(world, level=1.0)
        ):
            told.append(told_now)
            publisher.update(told_now)
        publisher.end("finished", is_metric=False)
        heard = subscriber.until_the_end()
    subscriber.close()

    assert [topic for topic, _ in heard] == ["start", *["update"] * len(told), "end"]
    assert heard[0][1]["config"]["chunk_size"] == 16
    sequence = [body["sequence"] for _, body in heard]
    assert sequence == list(range(sequence[0], sequence[0] + len(heard)))
    assert {body["protocol"] for _, body in heard} == {1}
    assert (heard[-1][1]["status"], heard[-1][1]["is_metric"]) == ("finished", False)
    updates = [body for topic, body in heard if topic == "update"]
    assert len(updates) == len(told) > 5
    assert any(update.corrections for update in told)
    times_s = {}
    for sent, body in zip(told, updates, strict=True):
        assert body["chunk"] == sent.chunk
        for name in ("frames", "timestamp_s", "world_from_cam", "points_in_world", "colors"):
            expected = getattr(sent, name)
            assert array(body[name]).dtype == expected.dtype
            np.testing.assert_array_equal(array(body[name]), expected)
        times_s.update(zip(sent.frames.tolist(), sent.timestamp_s.tolist(), strict=True))
        corrections = body["corrections"]
        frames = array(corrections["frames"]).tolist()
        assert frames == sorted(sent.corrections)
        assert array(corrections["timestamp_s"]).tolist() == [times_s[frame] for frame in frames]
        for frame, pose in zip(frames, array(corrections["world_from_cam"]), strict=True):
            np.testing.assert_array_equal(pose, sent.corrections[frame])


def test_who_joins_late_is_told_all_cameras_as_they_stand(publisher: Publisher, address: str) -> None:
    publisher.start({"loop": True})
    publisher.update(update(0))
    publisher.update(update(1, corrected=(1,)))
    late = join(publisher, address)
    publisher.update(update(2))
    heard = [late.hear() for _ in range(3)]
    late.close()
    assert [topic for topic, _ in heard] == ["start", "snapshot", "update"]
    assert heard[0][1]["config"] == {"loop": True}
    snapshot = heard[1][1]
    assert array(snapshot["frames"]).tolist() == [0, 1, 2, 3]
    assert array(snapshot["timestamp_s"]).tolist() == [0, 0.1, 0.2, 0.3]
    assert array(snapshot["world_from_cam"])[:, 0, 0].tolist() == [0, 101, 1, 1]
    assert heard[2][1]["chunk"] == 2


def test_who_has_been_told_is_not_told_again(publisher: Publisher, address: str) -> None:
    subscriber = join(publisher, address)
    publisher.start({})
    for chunk in range(3):
        publisher.update(update(chunk))
    publisher.end("finished", is_metric=True)
    topics = [topic for topic, _ in subscriber.until_the_end()]
    subscriber.close()
    assert topics == ["start", "update", "update", "update", "end"]


def test_a_slow_subscriber_loses_messages_notices_and_catches_up(publisher: Publisher, address: str) -> None:
    chunks, points = 60, 100_000  # 1.5 MB each, far more than sockets hold
    slow = join(publisher, address, queued=1)

    def publish() -> None:
        publisher.start({})
        for chunk in range(chunks):
            publisher.update(update(chunk, points=points))

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    publishing.join(PATIENCE_MS / 1000)
    assert not publishing.is_alive(), "the run waits for a subscriber"

    sequences = []
    while slow.socket.poll(1000):
        sequences.append(slow.hear()[1]["sequence"])
    assert 0 < len(sequences) < chunks
    slow.socket.unsubscribe(b"")
    slow.socket.subscribe(b"")
    topic = ""
    while topic != "snapshot":  # the subscription takes a moment to arrive
        publisher.update(update(chunks))
        if slow.socket.poll(100):
            topic, body = slow.hear()
    assert body["sequence"] > sequences[-1] + 1
    assert array(body["frames"]).tolist()[: 2 * chunks] == list(range(2 * chunks))
    slow.close()


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ConfigError("no"), "failed")]
)
def test_a_run_that_breaks_off_says_so(address: str, error: Any, status: str) -> None:
    publisher = Publisher(address)
    subscriber = join(publisher, address)
    with pytest.raises((KeyboardInterrupt, ConfigError)), publisher:
        raise error
    heard = subscriber.until_the_end()
    subscriber.close()
    assert (heard[-1][1]["status"], heard[-1][1]["is_metric"]) == (status, None)


def test_a_port_in_use_is_a_known_error(publisher: Publisher, address: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot publish at {address}; got Address already in use"):
        Publisher(address)


def test_an_address_of_another_machine_is_a_known_error() -> None:
    with pytest.raises(ConfigError, match=r"cannot publish at tcp://192\.0\.2\.1:5555"):
        Publisher("tcp://192.0.2.1:5555")


@pytest.mark.parametrize("library", ["zmq", "msgpack"])
def test_a_missing_library_names_the_extra(
    address: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'da3stream\[publish\]'"):
        Publisher(address)


def test_the_example_of_the_readme_writes_a_live_tum_file(
    publisher: Publisher, address: str, tmp_path: Path
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "zmq" in block)
    assert len(example.splitlines()) <= 30
    script, live = tmp_path / "live.py", tmp_path / "live.txt"
    script.write_text(example)
    publisher.start({})
    publisher.update(turned(update(0)))
    listening = subprocess.Popen([sys.executable, str(script), address, str(live)])
    try:
        chunk = 1
        while not live.exists():  # until it has joined, in the middle of the run
            publisher.update(turned(update(chunk, corrected=(0,))))
            chunk += 1
            assert listening.poll() is None
            threading.Event().wait(0.05)
        publisher.update(turned(update(chunk, corrected=(0, 1))))
        publisher.end("finished", is_metric=False)
        assert listening.wait(PATIENCE_MS / 1000) == 0
    finally:
        listening.kill()
    table = np.loadtxt(live)
    assert table.shape == (2 * chunk + 2, 8)
    np.testing.assert_allclose(table[:, 0], np.arange(2 * chunk + 2) / 10)
    np.testing.assert_allclose(table[2:, 1], np.repeat(np.arange(1, chunk + 1), 2))
    np.testing.assert_allclose(table[:2, 1], 100 + chunk)
    np.testing.assert_allclose(table[2:, 4:], [[0, 0, np.sqrt(0.5), np.sqrt(0.5)]] * (2 * chunk), atol=1e-6)


def turned(told: Update) -> Update:
    """The same with cameras that are turned by 90 degrees about z."""
    pose = np.array([[0.0, -1, 0, told.chunk], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    corrected = pose.copy()
    corrected[0, 3] += 100
    return Update(
        chunk=told.chunk,
        frames=told.frames,
        timestamp_s=told.timestamp_s,
        world_from_cam=np.tile(pose, (len(told.frames), 1, 1)),
        corrections=dict.fromkeys(told.corrections, corrected),
        points_in_world=told.points_in_world,
        colors=told.colors,
    )


def test_who_waited_for_a_run_hears_of_it_however_short_it_is() -> None:
    address = free_address()
    subscriber = Subscriber(address)
    with Publisher(address) as publisher:
        publisher.start({})
        publisher.update(update(0))
        publisher.end("finished", is_metric=False)
    heard = subscriber.until_the_end()
    subscriber.close()
    assert heard[0][0] == "start"
    told = {frame for topic, body in heard[1:-1] for frame in array(body["frames"]).tolist()}
    assert told == {0, 1}
