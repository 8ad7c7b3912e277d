"""A report that is one file: no script, nothing loaded from elsewhere, readable with a screen reader and on paper."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path

from affectgrid import storage
from affectgrid.reporting.tables import Table

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
td { font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: left }
.n { text-align: right }
figure { margin: 1.5rem 0 }
img { max-width: 100%; height: auto; background: #fff }
figcaption, .note { font-size: .9rem; opacity: .85 }
.caveat { border-left: 4px solid #c60; padding: .3rem 1rem }
code { overflow-wrap: anywhere }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG or SVG file with its alternative text (`alt`) and its `caption`."""

    path: Path
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report under one heading; facts are shown as a list of terms."""

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[tuple[str, str]] = ()


def render(title: str, sections: Sequence[Section], *, caveat: str = "") -> str:
    """The whole page. Texts are escaped; pictures are inlined."""
    warning = f'<p class="caveat" role="note">{escape(caveat)}</p>' if caveat else ""
    body = "\n".join(map(_section, sections))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><main><h1>{escape(title)}</h1>{warning}\n{body}\n</main></body></html>\n"
    )


def write(path: Path, title: str, sections: Sequence[Section], *, caveat: str = "") -> Path:
    """Write the page to `path` atomically."""
    return storage.write_atomic(path, render(title, sections, caveat=caveat))


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.facts:
        terms = "".join(f"<dt>{escape(term)}</dt><dd><code>{escape(fact)}</code></dd>" for term, fact in section.facts)
        parts.append(f"<dl>{terms}</dl>")
    parts += [table.html() for table in section.tables]
    parts += [_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</section>"])


def _picture(picture: Picture) -> str:
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[picture.path.suffix]
    content = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><img alt="{escape(picture.alt)}" src="data:{kind};base64,{content}">{caption}</figure>'
