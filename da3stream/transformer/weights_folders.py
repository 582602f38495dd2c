"""Where weights are looked for."""

from __future__ import annotations

from pathlib import Path

import da3stream


def weights_folders() -> tuple[Path, ...]:
    """Where models are looked for by name: ./weights, then weights/ beside the package in a checkout."""
    here = Path.cwd() / "weights"
    checkout = Path(da3stream.__file__).resolve().parents[1]
    if not (checkout / "pyproject.toml").is_file():  # installed: other packages live there
        return (here,)
    return tuple(dict.fromkeys((here, checkout / "weights")))
