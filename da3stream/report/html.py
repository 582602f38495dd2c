"""HTML elements as text. Whatever is not markup already is escaped: file names and warnings are untrusted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

_VOID = {"img", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: object) -> Html:
    """`<name attributes>children</name>`.

    Args:
        name: of the element.
        children: `Html` as it is, other text escaped.
        attributes: values are escaped, None leaves one out; `class_` means class, `text_anchor` text-anchor.
    """
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{head}>")
    return Html(f"<{name}{head}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Elements and texts one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def words(text: str) -> Html:
    """Text in which `...` is code."""
    parts = text.split("`")
    return joined(*(element("code", part) if row % 2 else part for row, part in enumerate(parts)))


def paragraph(text: str) -> Html:
    """A line of explanation, as `words`."""
    return element("p", words(text), class_="note")


def picture(uri: str, text: str) -> Html:
    """An image that is part of the page, and what it shows."""
    return element("img", src=uri, alt=text, title=text)


def section(identifier: str, title: str, *children: str, note: str = "") -> Html:
    """A section of the page with its heading; `note` is a line of explanation below it."""
    explanation = [paragraph(note)] if note else []
    return element("section", element("h2", title), *explanation, *children, id=identifier)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[int] = (),
    class_: str | None = None,
) -> Html:
    """A table that scrolls by itself where the page is too narrow.

    Args:
        head: titles of the columns; empty: there are none.
        rows: cells.
        numbers: columns that are aligned to the right.
        class_: of the table.
    """

    def line(cells: Sequence[str], kind: str) -> Html:
        parts = [
            element(kind, cell, class_="n" if column in numbers else None)
            for column, cell in enumerate(cells)
        ]
        return element("tr", *parts)

    body = element("tbody", *(line(row, "td") for row in rows))
    top = [element("thead", line(head, "th"))] if head else []
    return element("div", element("table", *top, body, class_=class_), class_="scroll")
