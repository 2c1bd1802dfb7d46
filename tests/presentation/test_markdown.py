"""Any text that goes into Markdown is shown as it is and never becomes markup.

The Markdown is parsed by markdown-it. GitHub's links without brackets are searched for as the renderer of Airflow's
pages does it, in text whose escapes are resolved already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bloodcell.presentation.markdown import Markdown, bold, code, escaped, markdown_table
from bloodcell.visible_text import visible, visible_line

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

# Source: mdast-util-gfm-autolink-literal 2.0, lib/index.js
AUTOLINKS = (
    re.compile(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)", re.IGNORECASE),
    re.compile(r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)"),
)
HARMLESS = {"text", "text_special", "code_inline"}
PIECES = st.sampled_from(
    [
        *"\\`*_{}[]()#+-.!|<>~&=:;@/\"'$%^?, \t\n\r1aé\u00a0\u202e\u200b\u2028\x00\x1b",
        "http://", "HTTPS://a.b", "www.a.b", "a@b.cc", "mailto:a@b.cc", "ftp://x", "</td>", "<b>", "<!--", "-->",
        "<script>alert(1)</script>", "<http://a.b>", "[a](http://b)", "![a](b)", "[a]: http://b", "[^1]", "&lt;",
        "&#60;", "&nbsp;", "```", "``", "~~~", "***", "---", "===", "1.", "1)", "- [ ]", "| --- |", "\\|", "\\\\|",
        "\n\n", "    ", "\r\n\r\n# ", "\n> ",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))


def leaves(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from leaves(token.children) if token.children else [token] if token.type != "inline" else []


def inline(markdown: str) -> list[Token]:
    return list(leaves([token for token in PARSER.parse(markdown) if token.type == "inline"]))


def blocks(markdown: str) -> list[str]:
    return [token.type for token in PARSER.parse(markdown)]


def assert_it_does_nothing(tokens: list[Token]) -> None:
    assert {token.type for token in tokens} <= HARMLESS
    for token in tokens:
        if token.type != "code_inline":
            assert not [found for autolink in AUTOLINKS for found in autolink.finditer(token.content)]


def shown(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens)


def normal(text: str) -> str:
    """White space as HTML shows it."""
    return re.sub(" +", " ", text).strip()


@settings(deadline=None)
@given(TEXTS)
def test_any_text_is_shown_as_it_is_and_never_becomes_markup(text: str) -> None:
    markdown = escaped(text)
    assert "<" not in markdown
    assert "\n" not in markdown
    for before in ("", "Reason: ", "- ", "1. ", "> ", "### "):
        tokens = inline(before + markdown)
        assert_it_does_nothing(tokens)
        assert normal(shown(tokens)) == normal(before.strip("-1.>#") + visible_line(text))
    assert blocks(markdown) in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert blocks(f"- {markdown}")[2:-2] in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert blocks(f"above\n{markdown}") == ["paragraph_open", "inline", "paragraph_close"]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), st.tuples(TEXTS, TEXTS, TEXTS))
def test_a_table_has_its_rows_and_cells_whatever_is_in_them(
    rows: list[tuple[str, str, str]], header: tuple[str, str, str]
) -> None:
    markdown = markdown_table(header, rows, right=[1])
    tokens = PARSER.parse(f"Before.\n\n{markdown}\n\nAfter.")
    types = [token.type for token in tokens]
    assert types[:4] == ["paragraph_open", "inline", "paragraph_close", "table_open"]
    assert types[-4:] == ["table_close", "paragraph_open", "inline", "paragraph_close"]
    assert types.count("tr_open") == len(rows) + 1
    assert (types.count("th_open"), types.count("td_open")) == (3, 3 * len(rows))
    cells = [list(leaves([token])) for token in tokens if token.type == "inline"][1:-1]
    for tokens_of_cell, text in zip(cells, [text for row in (header, *rows) for text in row], strict=True):
        assert_it_does_nothing(tokens_of_cell)
        assert normal(shown(tokens_of_cell)) == normal(visible_line(text))


@settings(deadline=None)
@given(TEXTS)
def test_code_and_bold_hold_any_text(text: str) -> None:
    tokens = inline(markdown_table(("x",), [(code(text),)]))
    assert_it_does_nothing(tokens)
    assert normal(shown(tokens)) == normal(f"x{visible_line(text)}")
    assert {token.type for token in inline(f"a {bold(text)} b")} <= HARMLESS | {"strong_open", "strong_close"}


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("S-12: 3 of 9 cells", "S-12: 3 of 9 cells"),
        ("vgg16_svm, _a_", r"vgg16_svm, \_a\_"),
        ("look | at", r"look \| at"),
        ("<b>&amp;", r"&lt;b&gt;\&amp;"),
        ("see http://a.b/c?d=(e), or www.f.g.", "see `http://a.b/c?d=(e),` or `www.f.g.`"),
        ("dr.a@site.org", "`dr.a@site.org`"),
        ("one\r\n\r\n# two", r"one    \# two"),
        ("- a", r"\- a"),
        ("2. a", r"2\. a"),
        ("0.950, -1", "0.950, -1"),
        ("==", r"\=="),
        ("a\u202eb", r"a\\u202eb"),
        ("  a  ", "a"),
        ("", ""),
    ],
)
def test_escaped_text_can_still_be_read(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


def test_long_text_is_cut_and_says_so() -> None:
    assert escaped("*" * 9, longest=3) == r"\*\*\* …"
    assert escaped("*" * 3, longest=3) == r"\*\*\*"


def test_markdown_is_not_escaped_again() -> None:
    table = markdown_table(("", "model"), [(bold("FAILED"), code("c0ffee")), (Markdown("*a*"), "*b*")], right=[1])
    assert table.splitlines() == [
        "|  | model |",
        "| --- | ---: |",
        "| **FAILED** | `c0ffee` |",
        r"| *a* | \*b\* |",
    ]


def test_a_row_with_another_number_of_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected 2 cells in each row, received 1"):
        markdown_table(("a", "b"), [("c",)])


@settings(deadline=None)
@given(st.text())
def test_visible_text_has_no_invisible_characters(text: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", visible(text))
    assert visible(visible(text)) == visible(text)
