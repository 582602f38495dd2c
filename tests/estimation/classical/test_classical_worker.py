"""Worker processes: messages, crashes, time limits, and that none outlives its parent."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import da3stream
from da3stream.errors import ProcessLostError
from da3stream.estimation.classical.jobs import (
    graph_arrays,
    graph_from_arrays,
    map_request,
    reconstruction_arrays,
    reconstruction_from_arrays,
)
from da3stream.estimation.classical.wire import Message, read_message, write_message
from da3stream.estimation.classical.worker_pool import WorkerPool
from da3stream.estimation.classical.worker_process import WorkerProcess

ROOT = Path(da3stream.__file__).resolve().parents[1]


def _request(world):
    return map_request(
        world.graph, world.calibration.intrinsics, world.calibration.size, mapper="incremental", seed=0
    )


def _wait_until_gone(pid, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_message_round_trip():
    stream = io.BytesIO()
    sent = Message(
        fields={"job": "map", "seed": 3}, arrays={"a": np.arange(6).reshape(2, 3), "b": np.zeros((0, 2))}
    )
    write_message(stream, sent)
    write_message(stream, Message(fields={}))
    stream.seek(0)
    read = read_message(stream)
    assert read.fields == sent.fields
    np.testing.assert_array_equal(read.arrays["a"], sent.arrays["a"])
    assert read.arrays["b"].shape == (0, 2)
    assert read_message(stream).fields == {}
    assert read_message(stream) is None


@pytest.mark.parametrize("cut", [1, 15, 20, 60])
def test_cut_message_is_the_end(cut):
    stream = io.BytesIO()
    write_message(stream, Message(fields={"job": "map"}, arrays={"a": np.arange(9.0)}))
    assert read_message(io.BytesIO(stream.getvalue()[:cut])) is None


def test_view_of_a_transposed_array_survives():
    stream = io.BytesIO()
    array = np.arange(6).reshape(2, 3).T
    write_message(stream, Message(fields={}, arrays={"a": array}))
    stream.seek(0)
    np.testing.assert_array_equal(read_message(stream).arrays["a"], array)


def test_graph_and_reconstruction_round_trip(noisy_orbit):
    graph = graph_from_arrays(graph_arrays(noisy_orbit.graph))
    np.testing.assert_array_equal(graph.pairs, noisy_orbit.graph.pairs)
    for ours, theirs in zip(graph.two_views, noisy_orbit.graph.two_views, strict=True):
        np.testing.assert_array_equal(ours.matches, theirs.matches)
        np.testing.assert_array_equal(ours.essential, theirs.essential)
    for ours, theirs in zip(graph.keypoints, noisy_orbit.graph.keypoints, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    truth = reconstruction_from_arrays(reconstruction_arrays(noisy_orbit.truth))
    np.testing.assert_array_equal(truth.observations, noisy_orbit.truth.observations)


def test_job_that_raises_is_answered(pool, orbit):
    request = _request(orbit)
    broken = Message(fields=request.fields, arrays={**request.arrays, "intrinsics": np.zeros((2, 3, 3))})
    replies = pool.ask([broken, request])
    assert "failed" in replies[0].fields
    assert "failed" not in replies[1].fields


def test_worker_killed_in_the_middle_of_a_job_is_an_error_and_the_next_job_succeeds(orbit):
    worker = WorkerProcess(time_limit_s=60.0)
    try:
        assert "failed" not in worker.ask(_request(orbit)).fields
        os.kill(worker.pid, signal.SIGSTOP)
        killer = threading.Timer(0.3, os.kill, args=(worker.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ProcessLostError, match=r"was killed with SIGKILL\. Probably memory ran out\."):
            worker.ask(_request(orbit))
        killer.join()
        assert worker.pid is None
        assert "failed" not in worker.ask(_request(orbit)).fields
    finally:
        worker.close()


@pytest.mark.parametrize("fatal", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_worker_that_crashes_is_gone_at_once_and_replaced(orbit, fatal):
    """Native libraries may catch these signals to print a stack trace, and hang."""
    worker = WorkerProcess(time_limit_s=60.0)
    try:
        worker.ask(_request(orbit))
        pid = worker.pid
        os.kill(pid, signal.Signals[fatal])
        assert _wait_until_gone(pid)
        assert worker.ask(_request(orbit)).fields == {"failed": f"its process crashed with {fatal}"}
        assert not Path(f"/proc/{pid}").exists()
        assert "failed" not in worker.ask(_request(orbit)).fields
    finally:
        worker.close()


@pytest.mark.parametrize("fatal", ["SIGKILL", "SIGTERM", "SIGUSR1"])
def test_worker_killed_from_outside_is_an_error_and_replaced(orbit, fatal):
    """The job would have succeeded: a result without it would not be that of an undisturbed run."""
    worker = WorkerProcess(time_limit_s=60.0)
    try:
        worker.ask(_request(orbit))
        pid = worker.pid
        os.kill(pid, signal.Signals[fatal])
        assert _wait_until_gone(pid)
        with pytest.raises(ProcessLostError, match=f"was killed with {fatal}"):
            worker.ask(_request(orbit))
        assert not Path(f"/proc/{pid}").exists()
        assert "failed" not in worker.ask(_request(orbit)).fields
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("exit 3", "ended with status 3"),
        ("echo 'Segmentation fault, or so: this is what a library printed'", "what is no message; got"),
        ("cat garbage", "arrays of a message cannot be read"),
        ("cat no_json", "no message; got"),
    ],
)
def test_worker_that_answers_garbage_or_ends_is_one_error(orbit, tmp_path, monkeypatch, does, message):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncd {tmp_path}\n{does}\nexec cat > read\n")
    fake.chmod(0o755)
    (tmp_path / "garbage").write_bytes(struct.pack("<4sQQ", b"D3SM", 2, 4) + b"{}junk")
    arrays = safetensors.numpy.save({})
    (tmp_path / "no_json").write_bytes(struct.pack("<4sQQ", b"D3SM", 2, len(arrays)) + b"{]" + arrays)
    monkeypatch.setattr(sys, "executable", str(fake))
    worker = WorkerProcess(time_limit_s=60.0)
    with pytest.raises(ProcessLostError, match=message):
        worker.ask(_request(orbit))
    assert worker.pid is None
    monkeypatch.undo()
    assert "failed" not in worker.ask(_request(orbit)).fields
    worker.close()


def test_one_killed_worker_of_a_pool_is_one_error_and_none_is_left(orbit):
    workers = WorkerPool(time_limit_s=60.0)
    try:
        workers.ask([_request(orbit)] * 2)
        pids = workers.pids
        os.kill(pids[0], signal.SIGKILL)
        assert _wait_until_gone(pids[0])
        with pytest.raises(ProcessLostError, match="was killed with SIGKILL"):
            workers.ask([_request(orbit)] * 4)
        assert all("failed" not in reply.fields for reply in workers.ask([_request(orbit)] * 2))
    finally:
        pids += workers.pids
        workers.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_interrupt_is_left_to_the_parent(orbit):
    """Ctrl-C on a terminal reaches the children as well; a lost job would change the result."""
    worker = WorkerProcess(time_limit_s=60.0)
    try:
        worker.ask(_request(orbit))
        pid = worker.pid
        os.kill(pid, signal.SIGINT)
        assert "failed" not in worker.ask(_request(orbit)).fields
        assert worker.pid == pid
    finally:
        worker.close()


def test_job_beyond_the_time_limit_is_stopped(orbit):
    """No interpreter starts and loads its libraries within a twentieth of a second."""
    worker = WorkerProcess(time_limit_s=0.05)
    try:
        reply = worker.ask(_request(orbit))
        assert reply.fields["timed_out"]
        assert worker.pid is None
    finally:
        worker.close()


def test_close_reaps_and_allows_another_start(orbit):
    workers = WorkerPool()
    workers.ask([_request(orbit)] * 2)
    pids = workers.pids
    assert pids
    workers.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "failed" not in workers.ask([_request(orbit)])[0].fields
    workers.close()


_PARENT = """
import sys, time
from da3stream.estimation.classical.worker_process import WorkerProcess
from da3stream.estimation.classical.wire import Message
worker = WorkerProcess(time_limit_s=60.0)
worker.ask(Message(fields={"job": "nothing"}))
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_worker_dies_with_a_killed_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        parent.wait()
        assert _wait_until_gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_parent_stays_free_of_native_code():
    """Importing the estimator must not load pycolmap, nor the package torch or OpenCV."""
    code = (
        "import sys, da3stream.estimation.classical as c\n"
        "assert not {'cv2', 'pycolmap', 'torch'} & set(sys.modules)\n"
        "c.ClassicalEstimator\n"
        "assert 'pycolmap' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
