"""Whatever is not markup is escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from da3stream.report.html import element, joined, table, words

HOSTILE = "<script>alert('x')</script>\"&`"


class Seen(HTMLParser):
    """The tags of a page, its text, and the values of attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_and_attributes_come_out_as_they_were_given() -> None:
    seen = Seen(element("p", HOSTILE, element("b", HOSTILE), title=HOSTILE))
    assert seen.tags == ["p", "b"]
    assert seen.text == HOSTILE * 2
    assert seen.values == [HOSTILE]


def test_elements_stay_markup_when_they_are_joined_and_plain_text_does_not() -> None:
    seen = Seen(joined(element("i", "a"), "<i>b</i>"))
    assert seen.tags == ["i"]
    assert seen.text == "a<i>b</i>"


def test_cells_of_a_table_are_escaped() -> None:
    seen = Seen(table(["a"], [[HOSTILE]], numbers={0}))
    assert "script" not in seen.tags
    assert HOSTILE in seen.text


@pytest.mark.parametrize("text", ["`<b>`", "`", "a `b` c `<i>", HOSTILE])
def test_code_between_backticks_is_escaped_too(text: str) -> None:
    seen = Seen(words(text))
    assert set(seen.tags) <= {"code"}
    assert seen.text == text.replace("`", "")


def test_images_have_no_end_tag_and_names_of_attributes_become_those_of_html() -> None:
    assert element("img", src="data:,", alt="") == '<img src="data:," alt="">'
    assert element("text", "1", text_anchor="end", class_=None) == '<text text-anchor="end">1</text>'
