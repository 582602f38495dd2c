"""The worker process: `python -m da3stream.estimation.classical.worker`, messages on stdin and stdout.

It leaves as soon as its stdin ends, even in the middle of a job, so it never outlives the process that
started it.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import IO

import numpy as np

from da3stream.child_process import take_signals_back
from da3stream.estimation.classical import native_mapping, native_model, native_verification
from da3stream.estimation.classical.jobs import (
    graph_arrays,
    graph_from_arrays,
    keypoints_from_arrays,
    reconstruction_arrays,
    reconstruction_from_arrays,
)
from da3stream.estimation.classical.wire import Message, read_message, write_message


def main() -> None:
    """Answer requests until stdin ends."""
    take_signals_back()
    native_model.silence()
    replies = _claim_stdout()
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        write_message(replies, answer(requests.get()))


def answer(request: Message) -> Message:
    """Do one job. A job that raises is answered by `failed` with the reason."""
    try:
        return _JOBS[request.fields["job"]](request)
    except (ValueError, LookupError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        return Message(fields={"failed": f"{type(error).__name__}: {error}"})


def _verify(request: Message) -> Message:
    fields, arrays = request.fields, request.arrays
    verified = native_verification.verify(
        graph_from_arrays(arrays),
        arrays["intrinsics"],
        (fields["width"], fields["height"]),
        focal_known=fields["focal_known"],
        seed=fields["seed"],
    )
    return Message(fields={}, arrays=graph_arrays(verified))


def _map(request: Message) -> Message:
    fields, arrays = request.fields, request.arrays
    found = native_mapping.map_images(
        graph_from_arrays(arrays),
        arrays["intrinsics"],
        (fields["width"], fields["height"]),
        mapper=fields["mapper"],
        seed=fields["seed"],
    )
    if found is None:
        return Message(fields={"failed": "no model was found"})
    return Message(fields={}, arrays=reconstruction_arrays(found))


def _triangulate(request: Message) -> Message:
    fields, arrays = request.fields, request.arrays
    found = native_mapping.triangulate(
        graph_from_arrays(arrays),
        arrays["intrinsics"],
        arrays["cam_from_world"],
        (fields["width"], fields["height"]),
        seed=fields["seed"],
    )
    return Message(fields={}, arrays=reconstruction_arrays(found))


def _adjust(request: Message) -> Message:
    fields, arrays = request.fields, request.arrays
    adjusted = native_model.adjust(
        reconstruction_from_arrays(arrays),
        keypoints_from_arrays(arrays),
        (fields["width"], fields["height"]),
        free_focal=fields["free_focal"],
    )
    return Message(fields={}, arrays=reconstruction_arrays(adjusted))


_JOBS = {"verify": _verify, "map": _map, "triangulate": _triangulate, "adjust": _adjust}


def _claim_stdout() -> IO[bytes]:
    """The pipe to the parent; what native code prints to stdout goes to stderr from here on."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


def _read_requests(stream: IO[bytes], requests: queue.SimpleQueue[Message]) -> None:
    while (message := read_message(stream)) is not None:
        requests.put(message)
    os._exit(0)


if __name__ == "__main__":
    main()
