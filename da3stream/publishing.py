"""Sends what a run tells, while it runs, to whoever listens: msgpack over ZeroMQ.

The socket is an XPUB: any SUB socket may connect. A message has two parts: the topic as bytes, and a msgpack
map. Every map holds `protocol` (1) and `sequence`, which counts all messages of the run from 0: a gap says
that some were lost. Arrays are maps of `dtype` (numpy's name, little-endian), `shape` and `data` (bytes, row
by row); nothing is pickled. Cameras are those of the run: camera to world, OpenCV axes.

`start`     once, and again for everyone who joins later
    `da3stream`        version
    `config`           the options; the unit is not known yet
`update`    after every chunk, and once more if only the whole tells something
    `chunk`            index of the chunk
    `frames`           int64 (M,), indices of the frames that are new
    `timestamp_s`      float64 (M,)
    `world_from_cam`   float64 (M, 4, 4)
    `corrections`      a map of `frames`, `timestamp_s`, `world_from_cam`: they replace what was told before
    `points_in_world`  float32 (K, 3), confident points that the new frames see
    `colors`           uint8 (K, 3) RGB of the points
`snapshot`  for everyone who joins later
    `frames`, `timestamp_s`, `world_from_cam`: all cameras told so far, as they stand
`end`
    `status`           finished, interrupted or failed
    `is_metric`        the unit is metres; nil unless it has finished

Who joins is told `start` and `snapshot` before the next update; points of the past are not sent again, they
are in the run directory. So whoever notices a gap subscribes anew and has all cameras again. That costs
nothing as long as nobody joins, and needs neither a second socket nor a clock.

A subscriber that is too slow loses messages and never holds up the run: at most `QUEUED_MESSAGES` wait for
each of them.
"""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from da3stream import __version__
from da3stream.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from da3stream.result import Update

PROTOCOL = 1
QUEUED_MESSAGES = 16
"""Messages that wait for each subscriber, at most: the high-water mark of the socket."""
LINGER_MS = 2000
"""How long a run waits in the end for messages that are still queued."""

JOINING_MS = 1000
"""How long a run that ends waits for the first listener: one that waited for its start tries to connect again
ten times a second, and a run that had finished before is told in less."""

_JOINED = b"\x01"


class Publisher:
    """A bound socket. A context manager: on leaving, the end is told, and the socket is closed.

    It binds to the one address it is given. For use in one thread.
    """

    def __init__(self, address: str) -> None:
        """
        Args:
            address: tcp://HOST:PORT; HOST is an address of this machine, or * for all of them.

        Raises:
            MissingDependencyError: pyzmq or msgpack is not installed.
            ConfigError: the address cannot be bound.
        """
        self._zmq, self._msgpack = _libraries()
        self._sequence = 0
        self._start: dict[str, Any] = {}
        self._frames: dict[int, tuple[float, NDArray[np.float64]]] = {}
        self._is_ended = self._was_heard = False
        self._context = self._zmq.Context()
        self._socket = self._context.socket(self._zmq.XPUB)
        self._socket.set(self._zmq.SNDHWM, QUEUED_MESSAGES)
        self._socket.set(self._zmq.LINGER, LINGER_MS)
        self._socket.set(self._zmq.XPUB_VERBOSE, 1)  # tell of every subscription, not of new topics only
        try:
            self._socket.bind(address)
        except self._zmq.ZMQError as error:
            self._close()
            raise ConfigError(
                f"cannot publish at {address}",
                got=error.strerror,
                hint="Name a free port and an address of this machine, tcp://127.0.0.1:5555 for example.",
            ) from None

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._is_ended:
            stopped = isinstance(error, KeyboardInterrupt | GeneratorExit)
            self.end("interrupted" if stopped else "failed", is_metric=None)
        self._close()

    def start(self, config: Mapping[str, Any]) -> None:
        """Tell the options of the run, JSON values."""
        self._welcome()  # who is there already needs none later
        self._start = {"da3stream": __version__, "config": dict(config)}
        self._send("start", self._start)

    def update(self, update: Update) -> None:
        """Tell what a chunk has told."""
        self._welcome()
        corrections = {
            frame: (self._frames[frame][0], pose) for frame, pose in sorted(update.corrections.items())
        }
        new = zip(update.frames.tolist(), update.timestamp_s.tolist(), update.world_from_cam, strict=True)
        self._frames.update(corrections)
        self._frames.update({frame: (time_s, pose) for frame, time_s, pose in new})
        told = {
            "chunk": update.chunk,
            "frames": _packed(update.frames),
            "timestamp_s": _packed(update.timestamp_s),
            "world_from_cam": _packed(update.world_from_cam),
            "corrections": _cameras(corrections),
            "points_in_world": _packed(update.points_in_world),
            "colors": _packed(update.colors),
        }
        self._send("update", told)

    def end(self, status: str, *, is_metric: bool | None) -> None:
        """Tell that the run is over."""
        if not self._was_heard:
            self._socket.poll(JOINING_MS, self._zmq.POLLIN)
        self._welcome()
        self._send("end", {"status": status, "is_metric": is_metric})
        self._is_ended = True

    def _welcome(self) -> None:
        """Tell all that is known if somebody has joined since the last message."""
        joined = False
        while self._socket.poll(0, self._zmq.POLLIN):
            joined |= self._socket.recv().startswith(_JOINED)
        self._was_heard |= joined
        if joined and self._start:
            self._send("start", self._start)
            self._send("snapshot", _cameras(self._frames))

    def _send(self, topic: str, fields: Mapping[str, Any]) -> None:
        body = {"protocol": PROTOCOL, "sequence": self._sequence, **fields}
        self._sequence += 1
        self._socket.send_multipart([topic.encode(), self._msgpack.packb(body)])

    def _close(self) -> None:
        self._socket.close()
        self._context.term()


def _libraries() -> tuple[ModuleType, ModuleType]:
    """pyzmq and msgpack."""
    try:
        import msgpack
        import zmq
    except ImportError as error:
        raise MissingDependencyError(
            "publishing needs pyzmq and msgpack", got=str(error), hint="pip install 'da3stream[publish]'"
        ) from None
    return zmq, msgpack


def _cameras(frames: Mapping[int, tuple[float, NDArray[np.float64]]]) -> dict[str, Any]:
    """The maps of some frames' times and (4, 4) poses."""
    return {
        "frames": _packed(np.array(list(frames), dtype=np.int64)),
        "timestamp_s": _packed(np.array([time_s for time_s, _ in frames.values()], dtype=np.float64)),
        "world_from_cam": _packed(np.array([pose for _, pose in frames.values()]).reshape(-1, 4, 4)),
    }


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    """An array as a map that msgpack knows."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": list(little.shape), "data": little.tobytes()}
