"""The networks on a GPU: exactness, memory against the plan, speed, and a long video inside 12 GiB.

    python benchmarks/gpu_network.py --out DIR [--minutes 9] [--sections parity memory speed long]

Needs torch, numpy and safetensors alone, and no installation: run it from a checkout. Weights are
pseudo-random. DIR/gpu_network.json is written anew after every case, so that a lost machine costs one case.
What there was no time for is in it as left out; what went wrong, or beyond a limit, as a failure (exit status
1). Sections share the time that is left.

parity  the fixtures of the small network; bfloat16 against float32; that neither pieces nor reuse change
        anything; that nothing waits for the device
memory  what the planner says against what torch and the driver say
speed   frames a second of chunks, share of the chip's peak, against a plain configuration in the same run;
        other sizes of the pieces; the kernels that ran
long    ten minutes of video through chunks of 60 frames, overlap 30, with 12 GiB

`--small --device cpu --model tiny` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # read when torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from da3stream.estimation.da3.config import NestedModelConfig  # noqa: E402
from da3stream.estimation.da3.loading import load_network, shaped_network  # noqa: E402
from da3stream.estimation.da3.nested_network import NestedNetwork  # noqa: E402
from da3stream.estimation.da3.network import Network  # noqa: E402
from da3stream.estimation.da3.preprocessing import to_network_input  # noqa: E402
from da3stream.estimation.memory import (  # noqa: E402
    CONTEXT_BYTES,
    FRAGMENTATION,
    LIBRARY_BYTES,
    ForwardMemory,
    forward_memory,
    plan_forward,
)
from da3stream.transformer import PATCH_PX  # noqa: E402
from da3stream.transformer.execution import ON_GPU, Execution, trunk_dtype_for  # noqa: E402
from tests.estimation.da3.golden import FOLDER, relative_error  # noqa: E402
from tests.estimation.da3.networks import errors, result_for  # noqa: E402

GIB = 2**30
SEED = 0
SHARES = {"parity": 2, "memory": 3, "speed": 4, "long": 4}
"""Section -> its part of the time."""
NESTED, GIANT = "da3nested-giant-large", "da3-giant"
FIXTURES = ("tiny_n1", "tiny_n2", "tiny_n2_cam", "tiny_n5_cam", "tiny_n5_feat", "tiny_b2_n4")
FIXTURE_LIMIT, EXACT_LIMIT = 1e-4, 1e-5
OUTPUTS = ("depth", "depth_conf", "extrinsics", "intrinsics")
PEAK_BF16_FLOPS = {"H100": 989e12, "H200": 989e12}
"""Dense bfloat16 products a second by a part of the device's name, as the maker gives it (SXM)."""
TIMED_PASSES = 3
TIMED_S = 15.0
"""No further pass begins after this."""
PLAIN_HEAD_VIEWS = 8
BUDGET_BYTES = 12 * GIB

Size = tuple[int, int]
"""(width, height) in pixels."""
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is run; the fields of the sections by name."""

    parity_models: tuple[str, ...] = ("da3-small", "da3-large", GIANT)
    parity_frames: int = 8
    parity_size: Size = (504, 280)
    memory_model: str = NESTED
    memory_cases: tuple[tuple[Size, int], ...] = (
        ((504, 378), 60),
        ((504, 378), 16),
        ((504, 378), 32),
        ((504, 378), 120),
        ((504, 154), 120),
        ((504, 378), 240),
    )
    speed_models: tuple[str, ...] = (NESTED, GIANT, "da3-base")
    speed_sizes: tuple[Size, ...] = ((504, 378), (504, 154))
    speed_frames: tuple[int, ...] = (60, 32, 16, 120)
    long_model: str = NESTED
    long_size: Size = (504, 280)
    long_frames: int = 6000
    long_chunk: int = 60


SMALL = Workload(
    parity_frames=4,
    parity_size=(84, 56),
    memory_cases=(((84, 56), 4), ((84, 56), 6)),
    speed_sizes=((84, 56),),
    speed_frames=(4, 6),
    long_size=(84, 56),
    long_frames=30,
    long_chunk=6,
)


@dataclass
class Bench:
    """Where it runs, what has been found, and until when."""

    device: torch.device
    work: Workload
    out: Path
    found: Found
    deadline_s: float = 0.0
    """Of `time.monotonic`, when no further case of the section may begin."""
    failures: list[str] = field(default_factory=list)
    card_before_bytes: int | None = None
    """What was taken on the card before this process used it."""
    _loaded: dict[tuple[str, torch.dtype], Network] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline_s

    def put(self, section: str, name: str, value: object) -> None:
        """Keep a result, on disk too."""
        self.found.setdefault(section, {})[name] = value
        scratch = self.out / "gpu_network.json.part"
        scratch.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        scratch.replace(self.out / "gpu_network.json")

    def attempt(self, section: str, name: str, case: Callable[[], Found]) -> None:
        """Run one case, unless the time is over. What goes wrong is a result; the next has its turn."""
        if self.is_over:
            self.put(section, name, {"left out": "no time left"})
            return
        began = time.monotonic()
        try:
            value = case()
        except Exception as error:  # whatever it is, it must not cost what the other cases find
            value = {"failure": f"{type(error).__name__}: {error}"}
        if "failure" in value or value.get("ok") is False:
            self.failures.append(f"{section}: {name}: {value.get('failure', 'beyond the limit')}")
        self.put(section, name, {**value, "seconds of the case": round(time.monotonic() - began, 1)})
        print(f"{section}: {name}: {json.dumps(value)[:300]}", flush=True)
        self.free()  # last: after some errors of the device this is one, too

    def network(self, model: str, trunk_dtype: torch.dtype | None = None) -> Network:
        """A network with its ray branch, in the types of a run or others; kept for the next time, alone.

        The giant is the any-view half of the nested one, if that is there.
        """
        dtype = trunk_dtype_for(self.device) if trunk_dtype is None else trunk_dtype
        if model == GIANT and (NESTED, dtype) in self._loaded:
            return self._loaded[NESTED, dtype].da3
        if (model, dtype) not in self._loaded:
            self.forget_networks()
            self._loaded[model, dtype] = load_network(
                model,
                weights=f"seeded:{SEED}",
                device=self.device,
                trunk_dtype=dtype,
                with_gaussians=False,
            )
        return self._loaded[model, dtype]

    def forget_networks(self) -> None:
        self._loaded.clear()
        self.free()

    def free(self) -> None:
        """Give back what nobody holds any more."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def images(self, size: Size, frames: int) -> Tensor:
        """(1, frames, 3, H, W) on the device."""
        return to_network_input(random_frames(size, frames), self.device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_network.json")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--sections", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", help="this one instead of all")
    parser.add_argument("--small", action="store_true", help="tiny images and few frames")
    options = parser.parse_args()
    failures = run(options)
    if failures:
        sys.exit("\n".join(failures))


def run(options: argparse.Namespace) -> list[str]:
    """All sections that are asked for; returns what failed."""
    ends_s = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    card_before = card_used_bytes_by_driver()  # before this process takes anything
    device = torch.device(options.device)
    arguments = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
    }
    found = {"benchmark": "gpu_network", **machine(device), "arguments": arguments, "seed": SEED}
    bench = Bench(
        device=device,
        work=workload(options.model, options.small),
        out=options.out,
        found=found,
        card_before_bytes=card_before,
    )
    sections = [name for name in SHARES if name in options.sections]
    with torch.inference_mode():
        for index, section in enumerate(sections):
            left_s = ends_s - time.monotonic()
            share = SHARES[section] / sum(SHARES[name] for name in sections[index:])
            bench.deadline_s = time.monotonic() + share * left_s
            SECTIONS[section](bench)
    bench.put("end", "failures", bench.failures)
    return bench.failures


def workload(model: str | None, small: bool) -> Workload:
    """What the options ask for."""
    work = SMALL if small else Workload()
    if model is None:
        return work
    return replace(work, parity_models=(model,), memory_model=model, speed_models=(model,), long_model=model)


# ---- parity


def parity(bench: Bench) -> None:
    """Everything in float32 is float32 here, convolutions too."""
    with tensor_float_32(False):
        bench.attempt("parity", "fixtures of the published network", lambda: fixtures(bench))
        exact_cases(bench, bench.work.parity_models[0])
        for model in bench.work.parity_models:
            bench.attempt(
                "parity", f"{model}: shorter types", lambda model=model: shorter_types(bench, model)
            )
            bench.forget_networks()


@contextmanager
def tensor_float_32(in_convolutions: bool) -> Iterator[None]:
    """Whether convolutions may round their float32 input to 10 bits, as torch lets them by default."""
    usual = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = in_convolutions
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = usual


def fixtures(bench: Bench) -> Found:
    """Largest relative error of any array, fixture by fixture."""
    network = load_network("tiny", weights="seeded:0", device=bench.device, trunk_dtype=torch.float32)

    def on_device(images: Tensor, **options: Any) -> dict[str, Tensor]:
        moved = {
            name: some.to(bench.device) if isinstance(some, Tensor) else some
            for name, some in options.items()
        }
        return {name: some.cpu() for name, some in network(images.to(bench.device), **moved).items()}

    found = {}
    for name in FIXTURES:
        path = FOLDER / f"{name}.npz"
        found[name] = max(errors(result_for(on_device, path), path).values())
    return limited("largest_relative_error", max(found.values()), FIXTURE_LIMIT) | {"by_fixture": found}


def exact_cases(bench: Bench, model: str) -> None:
    """What must not change the result of a float32 network, and that it never waits."""
    cases = {
        "pieces change nothing": pieces_change,
        "reuse changes nothing": reuse_changes,
        "nothing waits": nothing_waits,
    }
    for name, case in cases.items():
        bench.attempt(
            "parity", f"{model}: {name}", lambda case=case: case(bench, *float32_case(bench, model))
        )


def float32_case(bench: Bench, model: str) -> tuple[Network, Tensor]:
    """The network in float32, and its images."""
    images = bench.images(bench.work.parity_size, bench.work.parity_frames)
    return bench.network(model, torch.float32), images


def pieces_change(_: Bench, network: Network, images: Tensor) -> Found:
    expected = forward(network, images, uncut(network, images.shape[1]))
    found = {}
    for cut in (Execution(), ON_GPU, Execution(views=3, head_views=2, heads=1)):
        found[json.dumps(cut.sizes())] = largest_error(forward(network, images, cut), expected)
    return limited("largest_relative_error", max(found.values()), EXACT_LIMIT) | {"by_cut": found}


def reuse_changes(_: Bench, network: Network, images: Tensor) -> Found:
    expected = forward(network, images, Execution())
    half = images.shape[1] // 2
    first, second = network.per_view(images[0, :half]), network.per_view(images[0, half:])
    together = {name: torch.cat([first[name], second[name]]) for name in first}
    return limited(
        "largest_relative_error", largest_error(network(images, per_view=together), expected), EXACT_LIMIT
    )


def nothing_waits(bench: Bench, network: Network, images: Tensor) -> Found:
    """Torch raises an error where the program would have to wait for the device."""
    forward(network, images, ON_GPU)  # constants go to the device once
    if not bench.on_gpu:
        return {"left out": "no GPU"}
    bench.wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        network(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"ok": True}


def shorter_types(bench: Bench, model: str) -> Found:
    """Errors against float32 on this device. The first view is the reference: another choice changes all.

    The network is in shorter types afterwards.
    """
    network, images = float32_case(bench, model)
    network.execution = ON_GPU

    def compared() -> Found:
        return errors_by_kind(network(images, ref_view_strategy="first"), exact)

    exact = network(images, ref_view_strategy="first")
    chosen = {"float32": network(images)["reference"].tolist()}
    found: Found = {}
    with tensor_float_32(True):
        found["float32, convolutions in TF32"] = compared()
    shorten(network, model)
    chosen["bfloat16"] = network(images)["reference"].tolist()
    found["bfloat16 transformer, float32 heads"] = compared()
    with tensor_float_32(True):
        found["bfloat16 transformer, convolutions in TF32"] = compared()
    with head_in_bfloat16(network, bench.device):
        found["bfloat16 transformer and head"] = compared()
    return {**found, "reference view chosen": chosen}


def shorten(network: Network, model: str) -> None:
    """Give the parameters of a float32 network the types that they have on a GPU."""
    shaped = shaped_network(model, torch.bfloat16, with_gaussians=False)
    dtypes = {name: parameter.dtype for name, parameter in shaped.named_parameters()}
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])


@contextmanager
def head_in_bfloat16(network: Network, device: torch.device) -> Iterator[None]:
    """Convolutions and products of the head in bfloat16, as autocast does it."""
    head: Any = network.head
    head.project = torch.autocast(device.type, torch.bfloat16)(head.project)
    head.forward = torch.autocast(device.type, torch.bfloat16)(head.forward)
    try:
        yield
    finally:
        del head.project, head.forward


def errors_by_kind(ours: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> Found:
    """Maximum and mean: of depth, confidence and focal lengths relative to themselves; of angles between the
    rotations; of the translations' difference relative to their mean length."""
    a, b = (
        {name: some.double() for name, some in result.items() if name in OUTPUTS} for result in (ours, exact)
    )
    rotations = a["extrinsics"][..., :3] - b["extrinsics"][..., :3]
    chord = rotations.flatten(-2).norm(dim=-1) / 8**0.5  # sine of half the angle
    translations = (a["extrinsics"][..., 3] - b["extrinsics"][..., 3]).norm(dim=-1)
    focal = {name: some["intrinsics"][..., [0, 1], [0, 1]] for name, some in (("a", a), ("b", b))}
    kinds = {
        "depth_relative": ((a["depth"] - b["depth"]) / b["depth"]).abs(),
        "confidence_relative": ((a["depth_conf"] - b["depth_conf"]) / b["depth_conf"]).abs(),
        "rotation_deg": torch.rad2deg(2 * torch.asin(chord.clamp(max=1))),
        "translation_relative": translations / b["extrinsics"][..., 3].norm(dim=-1).mean(),
        "focal_relative": ((focal["a"] - focal["b"]) / focal["b"]).abs(),
    }
    return {name: {"max": float(some.max()), "mean": float(some.mean())} for name, some in kinds.items()}


# ---- memory


def memory(bench: Bench) -> None:
    model = bench.work.memory_model
    bench.attempt("memory", "context", lambda: context_memory(bench))
    bench.attempt("memory", "weights", lambda: {"bytes": weights_bytes(bench.network(model))})
    for size, frames in bench.work.memory_cases:
        for cut in (Execution(), ON_GPU):
            name = f"{model}, {size[0]} x {size[1]}, {frames} frames, {json.dumps(cut.sizes())}"
            bench.attempt(
                "memory",
                name,
                lambda size=size, frames=frames, cut=cut: forward_against_plan(
                    bench, model, size, frames, cut
                ),
            )
    bench.put("memory", "constants", constants(list(bench.found["memory"].values())))


def context_memory(bench: Bench) -> Found:
    """What the process takes on the card before it has done anything of use."""
    if not bench.on_gpu:
        return {"left out": "no GPU"}
    torch.zeros(1, device=bench.device)
    free, total = torch.cuda.mem_get_info(bench.device)
    return {
        "card_before_bytes": bench.card_before_bytes,
        "card_now_bytes": total - free,
        "taken_beside_torch_bytes": beside_torch_bytes(bench),
    }


def forward_against_plan(bench: Bench, model: str, size: Size, frames: int, cut: Execution) -> Found:
    """Planned and measured peak. What is left of a library's workspace from earlier passes counts too."""
    network = bench.network(model)
    trunk = trunk_dtype_for(bench.device)
    # The ray branch, which the plan leaves out, is in memory here: so the weights are those that there are.
    plan = replace(planned_memory(model, size, trunk, cut), weights_bytes=weights_bytes(network))
    said: Found = {
        "frames": frames,
        "planned_allocated_bytes": plan.allocated_bytes(frames),
        "planned_card_bytes": plan.card_bytes(frames),
    }
    images = bench.images(size, frames)
    bench.free()
    reset_peak(bench)
    result = forward(network, images, cut)
    bench.wait()
    said["finite"] = all(bool(result[name].isfinite().all()) for name in OUTPUTS)
    return said | measured_memory(bench, said) if bench.on_gpu else said


@lru_cache
def planned_memory(model: str, size: Size, trunk: torch.dtype, cut: Execution) -> ForwardMemory:
    """The plan serves any number of frames."""
    return forward_memory(model, size, trunk_dtype=trunk, execution=cut)


def measured_memory(bench: Bench, planned: Found) -> Found:
    """After a forward pass: what torch and the driver say, and what the assumed constants really are."""
    allocated = torch.cuda.max_memory_allocated(bench.device)
    reserved = torch.cuda.max_memory_reserved(bench.device)
    card = card_bytes(bench)
    return {
        "max_allocated_bytes": allocated,
        "max_reserved_bytes": reserved,
        "process_on_card_bytes": card,
        "planned_over_max_allocated": round(planned["planned_allocated_bytes"] / allocated, 4),
        "planned_card_over_process_on_card": round(planned["planned_card_bytes"] / card, 4),
        "allocated_beside_the_plan_bytes": allocated - planned["planned_allocated_bytes"],
        "reserved_over_allocated": round(reserved / allocated, 4),
        "taken_beside_torch_bytes": beside_torch_bytes(bench),
        "expandable_segments": any(part["is_expandable"] for part in torch.cuda.memory_snapshot()),
    }


def constants(cases: Sequence[Found]) -> Found:
    """What the planner assumes beside what it counts, and the range of what was measured."""
    assumed = {
        "allocated_beside_the_plan_bytes": LIBRARY_BYTES,
        "reserved_over_allocated": FRAGMENTATION,
        "taken_beside_torch_bytes": CONTEXT_BYTES,
    }
    measured = {name: [case[name] for case in cases if name in case] for name in assumed}
    return {
        name: {"assumed": value, "measured": [min(measured[name]), max(measured[name])]}
        for name, value in assumed.items()
        if measured[name]
    }


def reset_peak(bench: Bench) -> None:
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)


def card_bytes(bench: Bench) -> int:
    """What this process has on the card, as the driver says; torch gives nothing back by itself."""
    free, total = torch.cuda.mem_get_info(bench.device)
    return total - free - (bench.card_before_bytes or 0)


def beside_torch_bytes(bench: Bench) -> int:
    """What the process has on the card that torch's allocator does not know of: context, kernels."""
    return card_bytes(bench) - torch.cuda.memory_reserved(bench.device)


def weights_bytes(network: Network) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


# ---- speed


def speed(bench: Bench) -> None:
    main_model, *others = bench.work.speed_models
    chunks(bench, main_model)
    bench.attempt("speed", f"{main_model}: kernels", lambda: kernels(bench, main_model))
    for cut in other_cuts():
        name = f"{main_model}: pieces {json.dumps(cut.sizes())}"
        bench.attempt("speed", name, lambda cut=cut: with_pieces(bench, main_model, cut))
    for model in others:
        chunks(bench, model)


def chunks(bench: Bench, model: str) -> None:
    for size in bench.work.speed_sizes:
        for frames in bench.work.speed_frames:
            bench.attempt(
                "speed",
                f"{model}, {size[0]} x {size[1]}, {frames} frames",
                lambda size=size, frames=frames: chunk_speed(bench, model, size, frames),
            )


def other_cuts() -> list[Execution]:
    """The usual pieces of a GPU, then one size changed at a time."""
    sizes = {"views": (1, 2, 4, 16, 32), "head_views": (1, 2, 8, 16), "heads": (4, 12, 24)}
    return [ON_GPU, *(replace(ON_GPU, **{name: size}) for name in sizes for size in sizes[name])]


def chunk_speed(bench: Bench, model: str, size: Size, frames: int) -> Found:
    """Our configuration and the plain one in turns."""
    network = bench.network(model)
    images = bench.images(size, frames)
    work = flops(model, size, frames)
    sides: dict[str, Callable[[], object]] = {
        "default": lambda: forward(network, images, ON_GPU),
        "plain": lambda: forward(network, images, plain(network, frames), export_rays=True),
    }
    found: Found = {"trunk_flops": work["trunk"], "convolution_flops": work["convolutions"]}
    for name in list(sides):
        found[name] = warm_up(bench, sides[name])
        if "does not fit" in found[name]:
            del sides[name]
    times = in_turns(bench, sides)
    for name, seconds in times.items():
        found[name] |= rates(bench, statistics.median(seconds), frames, work)
    if len(times) == 2:
        ratios = [ours / other for ours, other in zip(times["default"], times["plain"], strict=True)]
        found["default_over_plain_seconds"] = round(statistics.median(ratios), 3)
    return found


def with_pieces(bench: Bench, model: str, cut: Execution) -> Found:
    """Seconds and memory of the first size and number of frames."""
    network = bench.network(model)
    frames = bench.work.speed_frames[0]
    images = bench.images(bench.work.speed_sizes[0], frames)

    def once() -> object:
        return forward(network, images, cut)

    found = warm_up(bench, once)
    if "does not fit" in found:
        return found
    seconds = statistics.median(in_turns(bench, {"": once})[""])
    return {**found, "seconds": round(seconds, 4), "frames_per_s": round(frames / seconds, 2)}


def warm_up(bench: Bench, once: Callable[[], object]) -> Found:
    """The first pass, and its peak of memory beside what was there: the weights and the images."""
    bench.free()
    reset_peak(bench)
    before = torch.cuda.memory_allocated(bench.device) if bench.on_gpu else 0
    try:
        once()
    except torch.OutOfMemoryError:
        return {"does not fit": "out of memory"}
    bench.wait()
    if not bench.on_gpu:
        return {}
    return {"peak_beside_weights_bytes": torch.cuda.max_memory_allocated(bench.device) - before}


def in_turns(bench: Bench, sides: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of several passes of each side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    began = time.perf_counter()
    for _ in range(TIMED_PASSES):
        for name, once in sides.items():
            bench.wait()
            start = time.perf_counter()
            once()
            bench.wait()
            times[name].append(time.perf_counter() - start)
        if time.perf_counter() - began > TIMED_S:
            break
    return times


def rates(bench: Bench, seconds: float, frames: int, work: Mapping[str, int]) -> Found:
    found = {"seconds": round(seconds, 4), "frames_per_s": round(frames / seconds, 2)}
    peak = peak_flops(bench)
    if peak is None:
        return found
    return found | {
        "share_of_bf16_peak": round(sum(work.values()) / seconds / peak, 4),
        "share_of_bf16_peak_trunk_alone": round(work["trunk"] / seconds / peak, 4),
    }


def peak_flops(bench: Bench) -> float | None:
    """The chip's bfloat16 peak, None for a chip that is not in the table."""
    if not bench.on_gpu:
        return None
    name = torch.cuda.get_device_name(bench.device)
    return next((peak for part, peak in PEAK_BF16_FLOPS.items() if part in name), None)


def flops(model: str, size: Size, frames: int) -> dict[str, int]:
    """Floating point operations of a forward pass without rays: of the transformers' products and attention
    by formula, of all convolutions counted."""
    shaped = shaped_network(model, torch.bfloat16, with_rays=False, with_gaussians=False)
    parts: list[Any] = [shaped.da3, shaped.da3_metric] if isinstance(shaped, NestedNetwork) else [shaped]
    return {
        "trunk": sum(trunk_flops(part.backbone.pretrained, size, frames) for part in parts),
        "convolutions": frames * sum(convolution_flops(part, size) for part in parts),
    }


def trunk_flops(transformer: nn.Module, size: Size, frames: int) -> int:
    """Two a weight and token for products, 4 n^2 C for the attention of n tokens."""
    config: Any = transformer.config
    tokens = 1 + (size[0] // PATCH_PX) * (size[1] // PATCH_PX)
    blocks: Any = transformer.blocks
    weights = sum(weight.numel() for weight in blocks.parameters() if weight.ndim == 2)
    seen = [frames * tokens if transformer.is_global(index) else tokens for index in range(config.depth)]
    attention = sum(4 * frames * tokens * others * config.width for others in seen)
    return 2 * weights * frames * tokens + attention


def convolution_flops(part: nn.Module, size: Size) -> int:
    """Of one frame, counted on the meta device."""
    network: Any = part
    network.execution = Execution(attention=lambda queries, _keys, _values: torch.empty_like(queries))
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.inference_mode(False):
        images = torch.empty(1, 1, 3, size[1], size[0], device="meta")
        network(images) if network.config.is_any_view else network.per_view(images[0])
    return int(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])


def kernels(bench: Bench, model: str) -> Found:
    """Which attention ran, and what takes the most time."""
    network = bench.network(model)
    images = bench.images(bench.work.speed_sizes[0], min(bench.work.speed_frames))
    forward(network, images, ON_GPU)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    with profile(activities=activities) as profiler:
        forward(network, images, ON_GPU)
        bench.wait()
    events = profiler.key_averages()
    clock = "self_device_time_total" if bench.on_gpu else "self_cpu_time_total"
    longest = sorted(events, key=lambda event: getattr(event, clock), reverse=True)[:16]
    return {
        "attention": {event.key: event.count for event in events if "_scaled_dot_product" in event.key},
        "longest_us": [[event.key[:160], event.count, round(getattr(event, clock))] for event in longest],
    }


# ---- long


def long(bench: Bench) -> None:
    bench.forget_networks()
    bench.attempt("long", "video", lambda: video(bench))


@dataclass(frozen=True, kw_only=True)
class ChunkDone:
    """One chunk of the long video."""

    seconds: float
    new_frames: int
    reserved_bytes: int
    card_bytes: int


def video(bench: Bench) -> Found:
    """Chunks as a run makes them, until the video ends or the time."""
    work, model = bench.work, bench.work.long_model
    network = bench.network(model)
    plan = plan_forward(
        model, work.long_size, work.long_chunk, BUDGET_BYTES, trunk_dtype=trunk_dtype_for(bench.device)
    )
    network.execution = replace(network.execution, **plan.execution)
    overlap = plan.frames // 2
    pool = random_frames(work.long_size, 4 * plan.frames)
    done: list[ChunkDone] = []
    with limited_memory(bench):
        for start in range(0, work.long_frames - overlap, plan.frames - overlap):
            if bench.is_over:
                break
            indices = np.arange(start, min(start + plan.frames, work.long_frames))
            new_frames = len(indices) - (overlap if start else 0)
            done.append(one_chunk(bench, network, pool[indices % len(pool)], new_frames))
            if len(done) % 10 == 0:
                bench.put("long", "so far", video_summary(done))
    planned = {
        "chunk": plan.frames,
        "overlap": overlap,
        "execution": dict(plan.execution),
        "planned_card_bytes": plan.planned_bytes,
    }
    return {**planned, "frames_of_the_video": work.long_frames, **video_summary(done)}


def one_chunk(bench: Bench, network: Network, frames: np.ndarray, new_frames: int) -> ChunkDone:
    """Bytes in, arrays on the host out."""
    reset_peak(bench)
    began = time.perf_counter()
    result = network(to_network_input(frames, bench.device))
    host = {name: result[name].cpu() for name in OUTPUTS}
    seconds = time.perf_counter() - began
    wrong = [name for name, some in host.items() if not bool(some.isfinite().all())]
    if wrong:
        raise ArithmeticError(f"not finite: {wrong}")
    return ChunkDone(
        seconds=seconds,
        new_frames=new_frames,
        reserved_bytes=torch.cuda.max_memory_reserved(bench.device) if bench.on_gpu else 0,
        card_bytes=card_bytes(bench) if bench.on_gpu else 0,
    )


@contextmanager
def limited_memory(bench: Bench) -> Iterator[None]:
    """The process gets 12 GiB of the card: what torch may reserve is that, less what it does not know of."""
    if not bench.on_gpu:
        yield
        return
    total = torch.cuda.get_device_properties(bench.device).total_memory
    allowed = BUDGET_BYTES - beside_torch_bytes(bench)
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), bench.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)


def video_summary(done: Sequence[ChunkDone]) -> Found:
    """Speed and memory, and whether they are the same at both ends."""
    if not done:
        return {"left out": "no time left"}
    quarter = max(1, len(done) // 4)
    ends = {"first_quarter": done[:quarter], "last_quarter": done[-quarter:]}
    frames, seconds = sum(each.new_frames for each in done), sum(each.seconds for each in done)
    return {
        "chunks": len(done),
        "frames_done": frames,
        "seconds": round(seconds, 2),
        "frames_per_s": round(frames / seconds, 2),
        "max_reserved_bytes": max(each.reserved_bytes for each in done),
        "max_process_on_card_bytes": max(each.card_bytes for each in done),
        "budget_bytes": BUDGET_BYTES,
        **{
            name: {
                "seconds_per_chunk": round(statistics.median(each.seconds for each in some), 4),
                "max_reserved_bytes": max(each.reserved_bytes for each in some),
                "max_process_on_card_bytes": max(each.card_bytes for each in some),
            }
            for name, some in ends.items()
        },
    }


# ---- what the sections share


def forward(network: Network, images: Tensor, cut: Execution, **options: Any) -> dict[str, Tensor]:
    """A forward pass cut in this way; the network stays so."""
    network.execution = cut
    return network(images, **options)


def uncut(network: Network, views: int) -> Execution:
    """Everything at once."""
    return Execution(views=views, head_views=views, heads=attention_heads(network))


def plain(network: Network, views: int) -> Execution:
    """As the published network runs: everything at once but the heads' maps."""
    return replace(uncut(network, views), head_views=min(views, PLAIN_HEAD_VIEWS))


def attention_heads(network: Network) -> int:
    config = network.config
    return config.any_view.heads if isinstance(config, NestedModelConfig) else config.heads


def largest_error(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Of any output, relative to its largest value."""
    return max(relative_error(ours[name].cpu(), expected[name].cpu()) for name in OUTPUTS)


def limited(name: str, value: float, limit: float) -> Found:
    return {name: value, "limit": limit, "ok": value <= limit}


def random_frames(size: Size, count: int) -> np.ndarray:
    """(count, H, W, 3) uint8: blocks of one colour a patch, with noise."""
    rng = np.random.default_rng(SEED)
    width, height = size
    blocks = rng.integers(0, 192, (count, height // PATCH_PX, width // PATCH_PX, 3), dtype=np.uint8)
    noise = rng.integers(0, 64, (count, height, width, 3), dtype=np.uint8)
    return blocks.repeat(PATCH_PX, axis=1).repeat(PATCH_PX, axis=2) + noise


def machine(device: torch.device) -> Found:
    """Commit, machine and versions."""
    found: Found = {
        "commit": command_output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "trunk_dtype": str(trunk_dtype_for(device)),
        "allocator": os.environ["PYTORCH_ALLOC_CONF"],
        "tf32": {
            "products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
    }
    if device.type != "cuda":
        return found | {"device": str(device)}
    return found | {
        "device": torch.cuda.get_device_name(device),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory,
        "driver": command_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def card_used_bytes_by_driver() -> int | None:
    """What is taken on the first card; None if nobody can tell."""
    said = command_output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0")
    return int(said.splitlines()[0]) * 2**20 if said else None


def command_output(*arguments: str) -> str | None:
    """What a command prints; None if there is no such command or it fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "parity": parity,
    "memory": memory,
    "speed": speed,
    "long": long,
}

if __name__ == "__main__":
    main()
