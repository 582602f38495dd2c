"""What every benchmark says of where it ran."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "opencv-python", "av", "pycolmap", "scipy", "torch")


def describe_environment(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Commit, machine, versions and arguments, as JSON values."""
    return {
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+changes" if _git("status", "--porcelain") else ""),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "arguments": {
            name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()
        },
    }


def _git(*arguments: str) -> str:
    here = Path(__file__).resolve().parent
    return subprocess.run(
        ["git", *arguments], cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()
