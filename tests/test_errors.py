"""What an error says, and that the tree of errors is the one that its docstring draws."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from da3stream import errors
from da3stream.errors import (
    RESUME,
    ConfigError,
    Da3StreamError,
    RunExistsError,
    StoreError,
    command_line,
    flag_of,
    naming_run,
    option,
)

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


def test_options_are_named_by_key_or_by_flag() -> None:
    error = ConfigError(f"{option('max_frames')} is 0", hint=f"Leave {option('max_frames')} out.")
    assert str(error) == "max_frames is 0. Leave max_frames out."
    assert error.worded(flag_of) == "--max-frames is 0. Leave --max-frames out."
    assert pickle.loads(pickle.dumps(error)).worded(flag_of) == error.worded(flag_of)  # noqa: S301


def test_hints_name_the_run_once_it_is_known() -> None:
    error = StoreError("it broke", hint=f"Go on with: {RESUME}.")
    assert str(error) == "it broke. Go on with: da3stream resume RUN."
    with pytest.raises(StoreError) as caught, naming_run(Path("my runs/1")):
        raise error
    assert str(caught.value) == "it broke. Go on with: da3stream resume 'my runs/1'."


def test_commands_can_be_pasted() -> None:
    assert command_line("view", Path("a b"), "--port", 3) == "da3stream view 'a b' --port 3"


def test_errors_are_caught_by_their_branch() -> None:
    with pytest.raises(StoreError, match="full"):
        raise RunExistsError("the folder is full")
