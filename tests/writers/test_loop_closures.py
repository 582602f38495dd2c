from __future__ import annotations

import json
from dataclasses import replace

import pytest

from da3stream.scene import LoopCandidate, LoopClosure
from da3stream.writers import create_writers

from .plane_scene import blocks_of, write


def closure(later: int, earlier: int, *, chunk: int | None = None, reason: str | None = None) -> LoopClosure:
    return LoopClosure(
        candidate=LoopCandidate(
            later=later, earlier=earlier, similarity=0.87654321, threshold=0.7, support=4
        ),
        chunk=chunk,
        reason=reason,
        evidence={"agreement": 0.9, "earlier": {"edges": [{"submap": 3}]}},
    )


ACCEPTED = closure(120, 7, chunk=9)
UNUSED = closure(130, 4, chunk=11)
REFUSED = closure(99, 12, reason="the two places contradict each other")


def written(make_context, outputs, **context):
    (writer,) = create_writers(["loops"], replace(make_context(frames=4), **context))
    write(writer, blocks_of(4))
    return outputs.root


def test_accepted_loops_are_lines_of_da3_streaming(make_context, outputs):
    loops = (REFUSED, ACCEPTED, UNUSED)
    root = written(make_context, outputs, loops=loops, loops_used={9: True, 11: False})
    lines = (root / "loop_closures.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["120, 7, 0.8765", "130, 4, 0.8765"]
    assert lines[0].startswith("#")


def test_everything_is_in_the_json(make_context, outputs):
    loops = (REFUSED, ACCEPTED, UNUSED)
    root = written(make_context, outputs, loops=loops, loops_used={9: True, 11: False})
    content = json.loads((root / "loop_closures.json").read_text())
    assert (content["format"], content["version"]) == ("da3stream loop closures", 1)
    assert content["loops"][1] == {
        "later": 120,
        "earlier": 7,
        "similarity": 0.87654321,
        "threshold": 0.7,
        "support": 4,
        "accepted": True,
        "reason": None,
        "used": True,
        "chunk": 9,
        "evidence": {"agreement": 0.9, "earlier": {"edges": [{"submap": 3}]}},
    }
    assert [loop["used"] for loop in content["loops"]] == [None, True, False]
    refused = content["loops"][0]
    assert (refused["accepted"], refused["chunk"], refused["reason"]) == (False, None, REFUSED.reason)


def test_without_loops_there_are_heads_only(make_context, outputs):
    root = written(make_context, outputs)
    lines = (root / "loop_closures.txt").read_text().splitlines()
    assert lines
    assert all(line.startswith("#") for line in lines)
    assert json.loads((root / "loop_closures.json").read_text())["loops"] == []


def test_an_accepted_loop_of_which_nobody_says_whether_it_was_used_is_an_error(make_context, outputs):
    with pytest.raises(KeyError):
        written(make_context, outputs, loops=(ACCEPTED,))
    assert not (outputs.root / "loop_closures.txt").exists()


def test_what_is_no_number_is_not_written(make_context, outputs):
    wrong = replace(REFUSED, evidence={"agreement": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        written(make_context, outputs, loops=(wrong,))
