"""How work is cut, and how it is cut smaller."""

from __future__ import annotations

import pytest

from da3stream.transformer.execution import ON_GPU, Execution, execution_for, pieces


@pytest.mark.parametrize(("device", "expected"), [("cpu", Execution()), ("cuda", ON_GPU), ("cuda:1", ON_GPU)])
def test_a_gpu_gets_larger_pieces(device: str, expected: Execution) -> None:
    assert execution_for(device) == expected


def test_halving_ends_with_the_smallest_pieces() -> None:
    seen = []
    cut: Execution | None = ON_GPU
    while cut is not None:
        seen.append(cut.sizes())
        cut = cut.halved()
    assert seen == [
        {"views": 8, "head_views": 4, "heads": 8},
        {"views": 4, "head_views": 2, "heads": 4},
        {"views": 2, "head_views": 1, "heads": 2},
        {"views": 1, "head_views": 1, "heads": 1},
    ]


@pytest.mark.parametrize(("total", "size"), [(1, 4), (4, 4), (5, 4), (7, 1), (0, 3)])
def test_pieces_cover_everything_once(total: int, size: int) -> None:
    runs = [list(range(total))[some] for some in pieces(total, size)]
    assert [item for run in runs for item in run] == list(range(total))
    assert all(0 < len(run) <= size for run in runs)
