"""A table that is shown in several ways: on a terminal, in Markdown, in HTML, in LaTeX, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import re
from collections.abc import Mapping, Sequence

import rich.box
import rich.table
from rich.text import Text


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Args:
        title: above it.
        headings: of the columns.
        rows: a text for each heading.
        note: below it; what a reader needs to understand it.
        sortable: whether a page lets its reader sort the rows.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    sortable: bool = False

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, str]], *, note: str = "", sortable: bool = False) -> Table:
        """From mappings of heading to text; a heading that a row lacks leaves its cell empty."""
        headings = tuple(dict.fromkeys(heading for row in rows for heading in row))
        cells = tuple(tuple(row.get(heading, "") for heading in headings) for row in rows)
        return cls(title, headings, cells, note, sortable)

    def is_numeric(self, column: int) -> bool:
        """Whether the column is aligned right: every cell begins like a number, or is a dash."""
        cells = [row[column] for row in self.rows if row[column] not in {"", "–"}]
        return bool(cells) and all(_starts_with_number(cell) for cell in cells)

    def rich(self) -> rich.table.Table:
        """Print it on a terminal. Cells are text, never markup."""
        shown = rich.table.Table(
            title=self.title,
            caption=self.note or None,
            title_justify="left",
            caption_justify="left",
            box=rich.box.SIMPLE,
        )
        for column, heading in enumerate(self.headings):
            numeric = self.is_numeric(column)
            shown.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
        for row in self.rows:
            shown.add_row(*(Text(cell) for cell in row))
        return shown

    def markdown(self) -> str:
        """As Markdown; a bar inside a cell is escaped."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"

        rule = "|" + "|".join(" ---: " if self.is_numeric(n) else " --- " for n in range(len(self.headings))) + "|"
        lines = [line(self.headings), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])

    def latex(self) -> str:
        """For a paper: booktabs, what is special to LaTeX escaped, plus-minus signs in mathematics."""
        columns = "".join("r" if self.is_numeric(column) else "l" for column in range(len(self.headings)))
        head, *rows = (" & ".join(map(_latex, cells)) + r" \\" for cells in (self.headings, *self.rows))
        body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        lines = [r"\begin{table}", rf"\caption{{{_latex(self.title)}}}", rf"\begin{{tabular}}{{{columns}}}", *body]
        note = [rf"\par\smallskip {_latex(self.note)}"] if self.note else []
        return "\n".join([*lines, r"\end{tabular}", *note, r"\end{table}", ""])

    def csv(self) -> str:
        """Comma-separated values under their headings; neither title nor note."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.headings, *self.rows])
        return text.getvalue()

    def html(self, pictures: Sequence[str] = ()) -> str:
        """An accessible HTML table: a caption, and scoped headings. `pictures` are elements, one before each row."""
        kinds = [self._kind(column) for column in range(len(self.headings))]

        def cell(column: int, content: str, tag: str, scope: str = "") -> str:
            return f"<{tag}{scope}{kinds[column]}>{html.escape(content)}</{tag}>"

        head = "".join(cell(n, heading, "th", ' scope="col"') for n, heading in enumerate(self.headings))
        rows = ["".join(cell(n, c, "td") for n, c in enumerate(row)) for row in self.rows]
        if pictures:
            head = '<th scope="col"></th>' + head
            rows = [f"<td>{picture}</td>{row}" for picture, row in zip(pictures, rows, strict=True)]
        body = "".join(f"<tr>{row}</tr>\n" for row in rows)
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        caption = f"<caption>{html.escape(self.title)}</caption>"
        kind = ' class="sortable"' if self.sortable else ""
        return f"<table{kind}>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>{note}"

    def _kind(self, column: int) -> str:
        """The class of a column's cells: numbers, or sentences, which a small screen must not squeeze."""
        if self.is_numeric(column):
            return ' class="n"'
        return ' class="long"' if any(len(row[column]) > _LONG for row in self.rows) else ""


_LONG = 40  # characters
_DIGITS = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:-{_DIGITS})?|nan|inf)")  # or a range: 10-30
_SPECIAL = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "σ": r"$\sigma$",
}


def _latex(cell: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in cell.replace("\n", " "))


def _starts_with_number(cell: str) -> bool:
    first = next(iter(cell.split()), "").rstrip("%").replace(",", "")
    return _NUMBER.fullmatch(first) is not None
