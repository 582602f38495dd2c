"""The networks and the memory planner need torch, numpy and safetensors alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEAN = (
    "da3stream.estimation.da3.loading",
    "da3stream.estimation.da3.network",
    "da3stream.estimation.da3.preprocessing",
    "da3stream.estimation.da3.bench",
    "da3stream.estimation.da3.bench_child",
    "da3stream.estimation.memory",
    "da3stream.place.salad.descriptor",
)
FOREIGN = ("pydantic", "av", "pycolmap", "cv2", "scipy", "yaml", "click", "huggingface_hub", "rich", "faiss")


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter after some code."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def loaded_by(*modules: str) -> set[str]:
    """Which of FOREIGN the modules bring with them."""
    done = ended(f"import sys, {', '.join(modules)}\nprint(*sys.modules.keys() & set({FOREIGN!r}))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_nothing_but_torch_and_numpy_is_imported() -> None:
    assert loaded_by(*LEAN) == set()


def test_the_probe_notices_a_foreign_package() -> None:
    assert loaded_by("da3stream.config") >= {"pydantic", "yaml"}


@pytest.mark.slow
def test_a_network_runs_where_nothing_else_is_installed() -> None:
    done = ended(
        f"""
import sys

import pytest
sys.modules.update(dict.fromkeys({FOREIGN!r}))  # importing any of them is an ImportError now
import torch
from da3stream.estimation.da3.loading import load_network
from da3stream.estimation.memory import forward_memory
network = load_network("tiny", weights="seeded:0")
with torch.inference_mode():
    depth = network(torch.zeros(1, 3, 3, 28, 42))["depth"]
print(tuple(depth.shape), forward_memory("tiny", (42, 28)).allocated_bytes(3) > depth.nbytes)
"""
    )
    assert done.stdout.split("\n")[0] == "(1, 3, 28, 42) True", done.stderr
