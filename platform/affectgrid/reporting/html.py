"""A report that is one file: nothing loaded from elsewhere, readable with a screen reader, on paper and on a phone.

The only script sorts tables; without it they are as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from affectgrid import storage
from affectgrid.reporting.tables import Table

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 }
p, dd code { overflow-wrap: anywhere }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
td { font-variant-numeric: tabular-nums }
table.sortable { max-height: 36rem; overflow-y: auto }
.sortable thead th { position: sticky; top: 0; background: Canvas }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
th[aria-sort] button::after { content: " \\2195"; opacity: .5 }
th[aria-sort=ascending] button::after { content: " \\2191"; opacity: 1 }
th[aria-sort=descending] button::after { content: " \\2193"; opacity: 1 }
@media print { table.sortable { max-height: none } }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: left }
.n { text-align: right }
.n { white-space: nowrap }
td.long { min-width: 12rem }
figure { margin: 1.5rem 0; overflow-x: auto }
img { max-width: 100%; height: auto; background: #fff }
@media (max-width: 48rem) { img { max-width: none } }
.embedded { overflow-x: auto; background: #fff; color-scheme: light }
dd { margin-left: 1.5rem }
pre { overflow-x: auto; border: 1px solid #8886; padding: .6rem }
figcaption, .note { font-size: .9rem; opacity: .85 }
.caveat { border-left: 4px solid #c60; padding: .3rem 1rem }
"""
_SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    const numeric = head.classList.contains("n");
    const key = row => {
      const text = row.cells[column].textContent;
      return numeric ? parseFloat(text.replaceAll(",", "")) : text;
    };
    const empty = value => value === "" || Number.isNaN(value);
    button.onclick = () => {
      const way = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
      heads.forEach(other => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const compare = (a, b) => numeric ? a - b : a.localeCompare(b);
      const rows = [...body.rows].map(row => [key(row), row]);
      rows.sort(([a], [b]) => empty(a) || empty(b) ? empty(a) - empty(b) : sign * compare(a, b));
      body.append(...rows.map(([, row]) => row));
    };
  });
}
"""
_PX_PER_INCH = 100  # of pictures: text of 8 points is then 11 pixels high


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG or SVG file with its alternative text (`alt`) and its `caption`."""

    path: Path
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report under one heading; facts are shown as a list of terms, and code below what it is for.

    What is `embedded` is HTML that another library made, and not escaped.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[tuple[str, str]] = ()
    code: Sequence[tuple[str, str]] = ()
    embedded: Sequence[str] = ()


def render(title: str, sections: Sequence[Section], *, caveat: str = "") -> str:
    """The whole page. Texts are escaped; pictures are inlined."""
    warning = f'<p class="caveat" role="note">{_inline(caveat)}</p>' if caveat else ""
    body = "\n".join(map(_section, sections))
    script = f"<script>{_SORT}</script>" if any(table.sortable for one in sections for table in one.tables) else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>{warning}\n{body}\n</main>{script}</body></html>\n"
    )


def write(path: Path, title: str, sections: Sequence[Section], *, caveat: str = "") -> Path:
    """Write the page to `path` atomically."""
    return storage.write_atomic(path, render(title, sections, caveat=caveat))


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{_inline(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.facts:
        terms = "".join(f"<dt>{escape(term)}</dt><dd><code>{escape(fact)}</code></dd>" for term, fact in section.facts)
        parts.append(f"<dl>{terms}</dl>")
    parts += [f"<p>{escape(words)}</p><pre><code>{escape(text)}</code></pre>" for words, text in section.code]
    parts += [f'<div class="embedded">{content}</div>' for content in section.embedded]
    parts += [table.html() for table in section.tables]
    parts += [_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</section>"])


def _inline(text: str) -> str:
    """Escaped, and what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _picture(picture: Picture) -> str:
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[picture.path.suffix]
    data = picture.path.read_bytes()
    content, size = base64.b64encode(data).decode("ascii"), _png_size(data) if kind == "image/png" else ""
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><img{size} alt="{escape(picture.alt)}" src="data:{kind};base64,{content}">{caption}</figure>'


def _png_size(data: bytes) -> str:
    """Attributes with its size on the page, where a small screen scrolls a wide picture and does not shrink it."""
    with Image.open(io.BytesIO(data)) as picture:
        scale = _PX_PER_INCH / float(picture.info.get("dpi", (_PX_PER_INCH, _PX_PER_INCH))[0])
        return "".join(
            f' {name}="{round(scale * length)}"' for name, length in zip(("width", "height"), picture.size, strict=True)
        )
