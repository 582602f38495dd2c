"""What is kept in memory of a run, for every frame of an hour."""

from __future__ import annotations

import json
from array import array

import pytest

from da3stream.scene import Frame
from da3stream.store.records import FrameTable, edge_fields, parse_edge

from .samples import make_edge, make_frames


def test_names_that_follow_from_the_source_are_not_kept() -> None:
    table = FrameTable.of(make_frames((3, 4)))
    assert table.given_names is None
    assert table.names == ("000006.jpg", "000008.jpg")


@pytest.mark.parametrize("name", ["left/1.png", "000006.JPG"])
def test_other_names_are_kept(name: str) -> None:
    first, second = make_frames((3, 4))
    named = Frame(
        index=first.index,
        source_index=first.source_index,
        timestamp_s=first.timestamp_s,
        image=first.image,
        name=name,
    )
    assert FrameTable.of((named, second)).names == (name, "000008.jpg")


def test_what_an_edge_says_frame_by_frame_is_packed_in_memory_and_plain_in_the_journal() -> None:
    event = json.loads(json.dumps(edge_fields(make_edge(0, 1))))
    edge = parse_edge(event)
    assert isinstance(edge.evidence["frames"], array)
    assert isinstance(edge.evidence["depth_ratios"], array)
    assert edge_fields(edge) == event
    assert json.loads(json.dumps(edge_fields(edge))) == event
