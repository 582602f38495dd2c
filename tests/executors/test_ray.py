"""Estimation on a Ray cluster of two machines, both of which are this one: the result is the local one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import load_config
from da3stream.errors import (
    ConfigError,
    DeviceMemoryError,
    EstimationError,
    MissingDependencyError,
    ProcessLostError,
    WeightsError,
)
from da3stream.executors import EstimationTask, RayExecutor
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld
from tests.executors.remote_doubles import (
    Broken,
    Killed,
    LateFirst,
    Sent,
    Small,
    Unlike,
    Unsendable,
    begun,
    deaths,
    processes,
)
from tests.pipeline.revisits import outputs_of, two_laps

SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
OPTIONS: dict[str, Any] = {
    "chunk_size": 12,
    "coarse": 4,
    "confidence_percentile": 90,
    "export": "poses,tum,cameras,loops,pcd",
}
STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two machines with a CPU each. This process is no part of it yet."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        machine = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE_BYTES}
        machines = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
        machines.add_node(**machine)
        patch.setenv("RAY_ADDRESS", machines.address)
        yield machines.address
        machines.shutdown()


@pytest.fixture
def connected(cluster: str) -> Iterator[None]:
    """A connection that the caller of da3stream has made."""
    import ray

    ray.init(address=cluster, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """One and a half laps, with loops and coarse chunks."""
    return two_laps(60, 40)


@pytest.fixture(scope="module")
def local(world: SimulatedWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the run without Ray."""
    folder = tmp_path_factory.mktemp("local")
    result = reconstruct(world, folder / "run", Sent(world, folder))
    manifest = json.loads((result.output / "run.json").read_text())
    assert manifest["loops"] > 0
    assert manifest["coarse_chunks"] > 0
    return outputs_of(folder / "run")


def reconstruct(world: SimulatedWorld, run: Path, estimator: Any, **options: Any) -> da3stream.Result:
    return da3stream.reconstruct(
        SimulatedSource(world),
        run,
        config=load_config(None, OPTIONS | options),
        estimator=estimator,
        descriptor=SimulatedDescriptor(world),
        resume=True,
    )


def on_ray(world: SimulatedWorld, run: Path, estimator: Any, **options: Any) -> da3stream.Result:
    return reconstruct(world, run, estimator, executor="ray", **options)


# The result -----------------------------------------------------------------------------------------------


def test_the_result_is_the_local_one_and_the_cluster_goes_on(
    cluster: str, tmp_path: Path, world: SimulatedWorld, local: dict[str, bytes]
) -> None:
    import ray

    on_ray(world, tmp_path / "run", Sent(world, tmp_path))
    assert outputs_of(tmp_path / "run") == local
    assert len(processes(tmp_path)) == 2
    assert not ray.is_initialized()
    ray.init(address=cluster, log_to_driver=False)
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_chunks_that_are_done_out_of_order_are_joined_in_order(
    tmp_path: Path, world: SimulatedWorld, local: dict[str, bytes]
) -> None:
    on_ray(world, tmp_path / "run", LateFirst(world, tmp_path))
    assert outputs_of(tmp_path / "run") == local


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_the_chunk_of_a_lost_actor_is_estimated_again(
    tmp_path: Path, world: SimulatedWorld, local: dict[str, bytes]
) -> None:
    on_ray(world, tmp_path / "run", Killed(world, tmp_path, frame=12, deaths=1))
    assert deaths(tmp_path) == 1
    assert outputs_of(tmp_path / "run") == local


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_chunk_that_loses_every_actor_ends_the_run_which_can_be_resumed_without_ray(
    tmp_path: Path, world: SimulatedWorld, local: dict[str, bytes]
) -> None:
    with pytest.raises(ProcessLostError, match=r"frames 12 to 23 cost 3 actors.*da3stream resume"):
        on_ray(world, tmp_path / "run", Killed(world, tmp_path, frame=12, deaths=1000))
    assert deaths(tmp_path) == 3
    reconstruct(world, tmp_path / "run", Sent(world, tmp_path))
    assert outputs_of(tmp_path / "run") == local


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_local_run_can_be_resumed_on_ray(
    tmp_path: Path, world: SimulatedWorld, local: dict[str, bytes]
) -> None:
    with pytest.raises(ZeroDivisionError):
        reconstruct(world, tmp_path / "run", Broken(world, tmp_path))
    on_ray(world, tmp_path / "run", Sent(world, tmp_path))
    assert outputs_of(tmp_path / "run") == local


def test_a_finished_run_needs_no_cluster(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reconstruct(world, tmp_path / "run", Sent(world, tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    again = on_ray(world, tmp_path / "run", Sent(world, tmp_path))
    assert np.array_equal(again.trajectory.world_from_cam, first.trajectory.world_from_cam)


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_network_is_made_in_the_actors(tmp_path: Path, world: SimulatedWorld) -> None:
    small = {
        "model": "tiny",
        "weights": "seeded:0",
        "colmap_points": "dense",
        "chunk_size": 12,
        "place": "none",
        "max_frames": 40,
    }
    for executor in ("local", "ray"):
        da3stream.reconstruct(
            SimulatedSource(world),
            tmp_path / executor,
            config=load_config(None, small | {"executor": executor, "device": "cpu"}),
        )
    manifests = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("local", "ray")]
    assert manifests[0]["weights"] == manifests[1]["weights"] == {"seed": 0}
    assert manifests[0]["model"] == manifests[1]["model"] == "tiny"
    assert manifests[0]["warnings"] == manifests[1]["warnings"]
    assert outputs_of(tmp_path / "local") == outputs_of(tmp_path / "ray")


# Memory ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_plans_are_those_of_the_actors_and_a_full_memory_shortens_chunks_as_it_does_locally(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    options = {"colmap_points": "dense", "chunk_size": 50, "coarse": 0, "loop": False}
    for name, how in (("local", reconstruct), ("ray", on_ray)):
        (tmp_path / name).mkdir()
        how(world, tmp_path / name / "run", Small(world, tmp_path / name, holds=12), **options)
    plans = [open_existing(tmp_path / name / "run").plans for name in ("local", "ray")]
    assert plans[0] == plans[1]
    assert [plan.sizes.size for plan in plans[1]] == [40, 20, 10]
    assert plans[1][0].execution == {"views": 4}
    assert outputs_of(tmp_path / "local" / "run") == outputs_of(tmp_path / "ray" / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_smaller_pieces_of_one_actor_are_those_of_all_later_chunks(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    estimator = Small(world, tmp_path, holds=100, backs_off_at=6)
    on_ray(world, tmp_path / "run", estimator, coarse=0, loop=False)
    first, *others = open_existing(tmp_path / "run").plans
    assert (first.first_frame, first.execution) == (0, {"views": 4})
    assert others[0].first_frame == 12
    assert others[0].execution == others[-1].execution == {"views": 1}
    assert len(others) <= 3, "only what was in flight was cut as before"


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_what_cannot_become_shorter_is_the_error_of_the_estimator(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    with pytest.raises(DeviceMemoryError, match=r"^the memory of the GPU is full$") as caught:
        on_ray(world, tmp_path / "run", Small(world, tmp_path, holds=2))
    assert type(caught.value) is DeviceMemoryError


# Errors ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_bug_is_not_tried_again(tmp_path: Path, world: SimulatedWorld) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^a bug$"):
        on_ray(world, tmp_path / "run", Broken(world, tmp_path))
    assert begun(tmp_path).count(6) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_machines_with_other_weights_are_refused(tmp_path: Path, world: SimulatedWorld) -> None:
    with pytest.raises(WeightsError, match="different weights"):
        on_ray(world, tmp_path / "run", Unlike(world, tmp_path))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_what_cannot_be_sent_is_said_before_there_is_a_run(tmp_path: Path, world: SimulatedWorld) -> None:
    with pytest.raises(EstimationError, match="simulated cannot be sent to other processes"):
        on_ray(world, tmp_path / "run", Unsendable(world, tmp_path))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_more_actors_than_there_is_room_for_are_not_waited_for(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("da3stream.executors.ray.PLACEMENT_S", 10.0)
    said: list[str] = []
    with RayExecutor(Sent(world, tmp_path), actors=3, notify=said.append) as executor:
        assert executor.capacity == 3
        assert said == ["2 of 3 actors have begun; the cluster has no room for the others"]
        running = executor.submit(
            EstimationTask(
                images=np.zeros((2, 14, 42, 3), np.uint8), indices=np.arange(2), known_cameras=None
            )
        )
        assert running.result(60).prediction.depth.shape == (2, 14, 42)


def test_without_a_cluster_there_is_one_error(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"no Ray cluster at 127.0.0.1:9.*ray start --head"):
        on_ray(world, tmp_path / "run", Sent(world, tmp_path))
    assert not (tmp_path / "run").exists()


def test_without_ray_the_extra_is_named(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"da3stream\[ray\]"):
        on_ray(world, tmp_path / "run", Sent(world, tmp_path))
