"""What run.json tells of verified loops."""

from __future__ import annotations

from da3stream.result import loop_counts
from da3stream.scene import LoopCandidate, LoopClosure


def closure(reason: str | None) -> LoopClosure:
    candidate = LoopCandidate(later=90, earlier=3, similarity=0.7, threshold=0.5, support=4)
    return LoopClosure(candidate=candidate, chunk=8 if reason is None else None, reason=reason)


def test_reasons_are_counted_without_the_figures_of_the_case() -> None:
    reasons = [
        None,
        "no submap shares enough frames with the later place",
        "the two places hardly see the same surfaces (12% of an image, at least 30% is needed)",
        "the two places hardly see the same surfaces (7.5% of an image, at least 30% is needed); and more",
        "only 4% of its common points fit, at least 12% are expected in this run",
        "only 11% of its common points fit, at least 12% are expected in this run",
        "only 1.5% of its common points fit, at least 13% are expected in this run",
    ]
    counts = loop_counts([closure(reason) for reason in reasons])
    assert counts == {
        "loops": 1,
        "loops_rejected": 6,
        "loop_rejections": {
            "only N% of its common points fit": 3,
            "the two places hardly see the same surfaces": 2,
            "no submap shares enough frames with the later place": 1,
        },
    }
    assert next(iter(counts["loop_rejections"].values())) == 3


def test_no_loops() -> None:
    assert loop_counts([]) == {"loops": 0, "loops_rejected": 0, "loop_rejections": {}}
