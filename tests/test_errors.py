"""What an error says, and that the tree of errors is the one that its docstring draws."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from da3stream import errors
from da3stream.errors import Da3StreamError, RunExistsError, StoreError

CLASSES = {
    name: member
    for name, member in vars(errors).items()
    if inspect.isclass(member) and member.__module__ == errors.__name__
}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "it broke"),
        ({"got": 3}, "it broke; got 3"),
        ({"expected": "four"}, "it broke; expected four"),
        ({"got": 0, "expected": 4, "hint": "Add some."}, "it broke; got 0; expected 4. Add some."),
        ({"hint": "Try again."}, "it broke. Try again."),
    ],
)
def test_a_message_says_what_got_expected_and_what_to_do(parts: dict[str, object], message: str) -> None:
    error = Da3StreamError("it broke", **parts)  # type: ignore[arg-type]
    assert str(error) == message
    assert (error.what, error.got, error.expected, error.hint) == (
        "it broke", parts.get("got"), parts.get("expected"), parts.get("hint"),
    )  # fmt: skip


def test_every_error_descends_from_the_root_and_from_no_builtin_error() -> None:
    for error in CLASSES.values():
        assert issubclass(error, Da3StreamError)
    assert Da3StreamError.__bases__ == (Exception,)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, int] = {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"^([ │├└─]*)([A-Z]\w+Error)\b", line):
            drawn[match[2]] = (len(match[1]) - 4) // 4
    assert set(drawn) == set(CLASSES)
    path: list[str] = []
    for name, depth in drawn.items():
        path[depth:] = [name]
        if depth:
            assert CLASSES[name].__bases__ == (CLASSES[path[depth - 1]],)


def test_an_error_keeps_its_message_on_the_way_from_another_process() -> None:
    error = RunExistsError("the folder is full", got="3 files", hint="Name another one.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is RunExistsError
    assert str(copy) == str(error)


def test_errors_are_caught_by_their_branch() -> None:
    with pytest.raises(StoreError, match="full"):
        raise RunExistsError("the folder is full")
