"""A report in a browser: its tables sort, and nothing is wider than a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from affectgrid.reporting import html
from affectgrid.reporting.figures import save
from affectgrid.reporting.study.figures import search_course
from affectgrid.reporting.tables import Table

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
ROWS = [("10", "b", "0.5"), ("9", "c", ""), ("-1", "a", "0.25")]
CLICKS = """<script>
const seen = [...document.querySelectorAll("th button")].flatMap(button => [1, 2].map(() => {
  button.click();
  return [...document.querySelectorAll(".sortable tbody tr")].map(row => row.cells[0].textContent).join(" ");
}));
seen.push([...document.querySelectorAll(".sortable th")].map(head => head.getAttribute("aria-sort")).join(" "));
seen.push(`${document.documentElement.scrollWidth} of ${innerWidth}`);
document.title = seen.join("|");
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_table_sorts_and_the_page_fits_a_phone(tmp_path: Path) -> None:
    headings = ("a number", "a word", "half empty")
    table = Table("t", headings, tuple(ROWS), sortable=True)
    wide = Table("w", tuple(f"column {number}" for number in range(30)), (("1.234",) * 30,))
    picture = html.Picture(save(search_course([0, 1], [0.2, 0.5]), tmp_path / "a.png"), "words")
    code = [("do:", "python jobs/train.py --data " + "x" * 300)]
    facts = [("data", "f" * 300)]
    path = html.write(
        tmp_path / "page.html",
        "t",
        [html.Section("s", ["words " * 90, "/a/path" * 40], [table, wide], [picture], facts, code)],
    )
    path.write_text(path.read_text().replace("</body>", CLICKS))
    assert BROWSER is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,900", "--dump-dom")
    done = subprocess.run([BROWSER, *options, path.as_uri()], capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r"<title>(.*)</title>", done.stdout)
    assert found is not None
    *orders, arrows, widths = found[1].split("|")
    assert orders == [
        *("10 9 -1", "-1 9 10"),
        *("9 10 -1", "-1 10 9"),
        *("10 -1 9", "-1 10 9"),  # an empty cell is last both ways
    ]
    assert arrows == "none none ascending"
    needed, there = map(int, widths.split(" of "))
    assert needed <= there <= 500
