"""Ctrl-C in the middle of a run with a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from da3stream import Prediction
from da3stream.estimation.da3.estimator import DA3Estimator


@contextmanager
def interrupted_estimates(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[None]:
    """Within this context, Ctrl-C comes at the given call (from 1) of the DA3 estimator."""
    estimate, calls = DA3Estimator.estimate, []

    def interrupted(self: DA3Estimator, *arguments: Any, **keywords: Any) -> Prediction:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return estimate(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(DA3Estimator, "estimate", interrupted)
        yield
