"""Tables: the same cells on a terminal, in Markdown and in HTML."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from affectgrid.reporting.tables import Table

TABLE = Table.of("Arms", [{"arm": "full", "P": "0.600 ± 0.141"}, {"arm": "a | b", "P": "–", "s": "3"}], note="tiny")


def test_markdown_is_a_table_with_numbers_on_the_right():
    assert TABLE.markdown() == (
        "| arm | P | s |\n| --- | ---: | ---: |\n| full | 0.600 ± 0.141 |  |\n| a \\| b | – | 3 |\n\ntiny\n"
    )


def test_the_terminal_shows_title_cells_and_note_and_reads_no_markup():
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(Table.of("T", [{"x": "[red]1[/red]", "y": "2.5"}], note="n").rich())
    text = console.export_text()
    assert "[red]1[/red]" in text
    assert all(part in text for part in ("T", "2.5", "n"))


def test_long_settings_fold_and_numbers_do_not():
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(Table.of("", [{"P": "0.123", "settings": "mode none, file polar8-plain, dropout 0.0384"}]).rich())
    text = console.export_text()
    assert "0.123" in text
    assert max(map(len, text.splitlines())) <= 40


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.scopes: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.cells.append("")
            self.scopes.append(dict(attrs).get("scope"))

    def handle_data(self, data: str) -> None:
        if self.cells and self.get_starttag_text() not in ("<caption>", "<p>"):
            self.cells[-1] += data


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1, max_size=4)
)
def test_html_gives_every_cell_back(texts: list[str]):
    parser = _Cells()
    parser.feed(Table.of("t", [{str(number): text for number, text in enumerate(texts)}]).html())
    assert [cell.strip() for cell in parser.cells[len(texts) :]] == [text.strip() for text in texts]
    assert parser.scopes[: len(texts)] == ["col"] * len(texts)


def test_columns_of_text_stay_on_the_left():
    assert [TABLE.is_numeric(column) for column in range(3)] == [False, True, True]
    assert not Table.of("", [{"a": "–"}]).is_numeric(0)


@pytest.mark.parametrize(
    ("cell", "numeric"),
    [
        ("8,823", True), ("10-30", True), ("2.2%", True), ("-.5", True), ("1e-3", True), ("nan", True), ("1 ± 2", True),
        ("2026-01-02", False), ("3x3-plain", False), ("1.0.2", False), ("-", False),
    ],
)  # fmt: skip
def test_what_begins_like_a_number(cell: str, numeric: bool):
    assert Table.of("", [{"a": cell}]).is_numeric(0) is numeric


def test_latex_is_a_table_of_a_paper():
    table = Table.of("5 % of a_b", [{"arm": "σ & grid", "P": "0.71 ± 0.01"}], note="Made with ~100 {tracks}.")
    assert (
        table.latex()
        == r"""\begin{table}
\caption{5 \% of a\_b}
\begin{tabular}{lr}
\toprule
arm & P \\
\midrule
$\sigma$ \& grid & 0.71 $\pm$ 0.01 \\
\bottomrule
\end{tabular}
\par\smallskip Made with \textasciitilde{}100 \{tracks\}.
\end{table}
"""
    )


def test_csv_quotes_what_needs_it():
    assert Table.of("t", [{"a": "1, 2", "b": 'say "x"'}]).csv() == 'a,b\n"1, 2","say ""x"""\n'
