"""What a user would wait for before the first points."""

from __future__ import annotations

import subprocess
import sys


def test_the_viewer_does_not_import_what_only_its_child_or_a_growing_run_needs() -> None:
    script = "import sys, da3stream.viewing.viewer; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(imported.stdout.split())
    assert "da3stream.viewing.map_state" in modules
    assert modules.isdisjoint(
        {"da3stream.placed_map", "da3stream.optimisation", "scipy.stats", "torch", "pycolmap", "av"}
    )
