"""Seconds and peak memory of one forward pass of a network on the CPU, and what each saving brings.

    python benchmarks/cpu_network.py [--rounds 5] [--parts published cut reuse] [--model da3-small]

Three parts:

published  the network as it runs by default, against the same network made to waste what the published one
           wastes: BLAS products, all views and heads at once, rays that nobody asked for
cut        other sizes of the pieces into which the work is cut (`Execution`), one changed at a time
reuse      a chunk whose first half was in the chunk before: the early blocks once a frame, or twice

In the first two parts each configuration has a fresh process in every round. Its peak of resident memory is
reported, imports and weights included. Configurations take turns, in the opposite order every other round,
and are judged by the ratio within each round: other load on the machine hits all of them. Weights are
pseudo-random. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from metadata import describe_environment
from torch import Tensor
from torch.nn import functional

from da3stream.estimation.da3 import dense_head
from da3stream.estimation.da3.bench_child import peak_resident_bytes
from da3stream.estimation.da3.config import preset
from da3stream.estimation.da3.loading import load_network
from da3stream.estimation.da3.network import Network
from da3stream.estimation.da3.preprocessing import to_network_input
from da3stream.transformer import blocks, linear

SEED = 0
OURS, PUBLISHED_LIKE = "default", "published-like"
PARTS = ("published", "cut", "reuse")
CUTS = ({"views": 2}, {"views": 4}, {"head_views": 2}, {"head_views": 4}, {"views": 2, "head_views": 2})
PUBLISHED = {
    "seconds": 4.3,
    "cpu_seconds": 8.1,
    "peak_rss_bytes": 1.22e9,
    "source": "TIMING.md of the parity fixtures: the published network on another machine of two cores",
}
PUBLISHED_CASE = {"model": "da3-small", "frames": 8, "height": 280, "width": 504, "threads": 2}

Pass = Callable[[], Mapping[str, Tensor]]
Case = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3, help="timed passes a process")
    parser.add_argument("--model", default=PUBLISHED_CASE["model"], help="an any-view model")
    for name in ("frames", "height", "width", "threads"):
        parser.add_argument(f"--{name}", type=int, default=PUBLISHED_CASE[name])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(**json.loads(options.child))))
        return
    print(json.dumps(report(options), indent=2))


def report(options: argparse.Namespace) -> dict[str, Any]:
    """All parts that are asked for."""
    shape = {name: getattr(options, name) for name in PUBLISHED_CASE}
    common = {**shape, "passes": options.passes}
    cases = {name: {**common, **case} for name, case in cases_of(options).items()}
    result = {"benchmark": "cpu_network", "seed": SEED, "load": os.getloadavg()[0]}
    rounds = [run_all(cases, backwards=bool(index % 2)) for index in range(options.rounds)] if cases else []
    if rounds:
        result["cases"] = {name: summary([each[name] for each in rounds]) for name in cases}
        result["ratio_to_default"] = {name: ratios(rounds, name, OURS) for name in cases if name != OURS}
    if "published" in options.parts:
        result["ratio_of_default_to_published_like"] = ratios(rounds, OURS, PUBLISHED_LIKE)
        if shape == PUBLISHED_CASE:
            result["published_figures"] = PUBLISHED
            result["ratio_of_default_to_published_figures"] = to_published(result["cases"][OURS])
    if "reuse" in options.parts:
        result["reuse"] = in_child({**common, "reuse_rounds": options.rounds * options.passes})
    del options.child
    return result | describe_environment(vars(options))


def cases_of(options: argparse.Namespace) -> dict[str, Case]:
    """Name -> settings of the configurations that run in processes of their own."""
    cases: dict[str, Case] = {}
    if {"published", "cut"} & set(options.parts):
        cases[OURS] = {}
    if "published" in options.parts:
        frames = options.frames
        uncut = {"views": frames, "head_views": frames, "heads": preset(options.model).heads}
        cases[PUBLISHED_LIKE] = {"cut": uncut, "with_rays": True, "blas": True}
    if "cut" in options.parts:
        for cut in CUTS:
            cases[", ".join(f"{name} {size}" for name, size in cut.items())] = {"cut": cut}
    return cases


def run_all(cases: Mapping[str, Case], *, backwards: bool) -> dict[str, dict[str, Any]]:
    """One round: each case once, in a process of its own."""
    names = list(cases)[:: -1 if backwards else 1]
    return {name: in_child(cases[name]) for name in names}


def in_child(case: Case) -> dict[str, Any]:
    """What `measure` says in a fresh process."""
    threads = str(case["threads"])
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(case)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
    )
    return json.loads(done.stdout.splitlines()[-1])


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, the largest memory, and what every round said."""
    return {
        "settings": results[0]["settings"],
        **{name: round(_median(results, name), 3) for name in ("seconds", "cpu_seconds")},
        "peak_rss_bytes": max(each["peak_rss_bytes"] for each in results),
        "rss_before_forward_bytes": max(each["rss_before_forward_bytes"] for each in results),
        "seconds_per_round": [round(each["seconds"], 3) for each in results],
        "cpu_seconds_per_round": [round(each["cpu_seconds"], 3) for each in results],
    }


def ratios(rounds: Sequence[Mapping[str, Any]], name: str, base: str) -> dict[str, Any]:
    """One configuration over another, round by round, and the medians of that."""
    pairs = {
        kind: [each[name][kind] / each[base][kind] for each in rounds]
        for kind in ("seconds", "cpu_seconds", "peak_rss_bytes")
        if kind in rounds[0][name]
    }
    return {kind: round(statistics.median(values), 3) for kind, values in pairs.items()} | {
        "seconds_per_round": [round(value, 3) for value in pairs["seconds"]]
    }


def to_published(ours: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: round(ours[name] / PUBLISHED[name], 3) for name in ("seconds", "cpu_seconds", "peak_rss_bytes")
    }


def measure(
    *,
    model: str,
    frames: int,
    height: int,
    width: int,
    threads: int,
    passes: int,
    cut: Mapping[str, int] | None = None,
    with_rays: bool = False,
    blas: bool = False,
    reuse_rounds: int = 0,
) -> dict[str, Any]:
    """In the child: one configuration, or with `reuse_rounds` the part on reuse."""
    torch.set_num_threads(threads)
    if blas:
        use_blas()
    network = load_network(model, weights=f"seeded:{SEED}", with_rays=with_rays, with_gaussians=False)
    network.execution = replace(network.execution, **(cut or {}))
    pixels = np.random.default_rng(SEED).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    images = to_network_input(pixels)
    if reuse_rounds:
        return measure_reuse(network, images, reuse_rounds)
    before = resident_bytes()
    with torch.inference_mode():
        times = timed(lambda: network(images, export_rays=with_rays), passes)
    settings = {**network.execution.sizes(), "rays": with_rays, "products": "BLAS" if blas else "as shipped"}
    return {
        "settings": settings,
        **times,
        "peak_rss_bytes": peak_resident_bytes(),
        "rss_before_forward_bytes": before,
    }


def use_blas() -> None:
    """From now on products are computed as `nn.Linear` does it."""
    for module in (linear, blocks, dense_head):
        assert callable(module.linear)
        module.linear = functional.linear


def timed(forward: Pass, passes: int) -> dict[str, float]:
    """Medians of several passes, after one that warms up."""
    forward()
    times = [timed_once(forward) for _ in range(passes)]
    return {kind: _median(times, kind) for kind in times[0]}


def timed_once(forward: Pass) -> dict[str, float]:
    """Wall seconds, and CPU seconds of all threads."""
    began, cpu_began = time.perf_counter(), time.process_time()
    forward()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}


@torch.inference_mode()
def measure_reuse(network: Network, images: Tensor, rounds: int) -> dict[str, Any]:
    """Chunks whose first half is known from the chunk before, with and without what was kept of it."""
    kept = network.per_view(images[0, : images.shape[1] // 2])

    def anew() -> Mapping[str, Tensor]:
        return network(images)

    def reusing() -> Mapping[str, Tensor]:
        new = network.per_view(images[0, images.shape[1] // 2 :])
        return network(images, per_view={name: torch.cat([kept[name], new[name]]) for name in kept})

    difference = largest_difference(reusing(), anew())
    results = []
    for index in range(rounds):
        sides = (("anew", anew), ("reusing", reusing))[:: -1 if index % 2 else 1]
        results.append({name: timed_once(forward) for name, forward in sides})
    medians = {
        name: {kind: round(_median([each[name] for each in results], kind), 3) for kind in results[0][name]}
        for name in ("anew", "reusing")
    }
    return {
        "kept_frames": images.shape[1] // 2,
        "kept_bytes": sum(some.nbytes for some in kept.values()),
        **medians,
        "ratio_of_reusing_to_anew": ratios(results, "reusing", "anew"),
        "largest_difference_of_depth": difference,
    }


def largest_difference(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Of depth, relative to the largest depth."""
    return float((ours["depth"] - expected["depth"]).abs().max() / expected["depth"].abs().max())


def resident_bytes() -> int:
    """Resident memory of this process now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _median(results: Sequence[Mapping[str, Any]], name: str) -> float:
    return statistics.median(each[name] for each in results)


if __name__ == "__main__":
    main()
