"""Write docs/reliability.md: each promise, its tests, and their last results.

    pytest --junitxml report.xml ... && python tests/reliability.py report.xml

Results of tests that the reports do not hold are kept as they stand in the page.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from promises import PROMISES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
_HEAD = """# What is promised when something fails

Made by `make reliability` from `tests/promises.py` and the reports of test runs. Each test causes
its fault for real: it kills processes and machines, fills disks, flips bytes. A date is that of the
last run, with the seconds that it took.

| fault | what holds | test | last run |
| --- | --- | --- | --- |
"""
_ROW = re.compile(r"^\|.*\| `tests/(?P<test>[^`]+)` \| (?P<run>[^|]+) \|$", re.MULTILINE)


def results(reports: Iterable[Path]) -> dict[str, str]:
    """What the reports say of each test: all its parameters together."""
    seen: dict[str, list[tuple[str, float]]] = defaultdict(list)
    dates: dict[str, str] = {}
    for report in reports:
        for suite in ET.parse(report).iter("testsuite"):
            for case in suite.iter("testcase"):
                path = case.attrib["classname"].removeprefix("tests.").replace(".", "/")
                test = f"{path}.py::{case.attrib['name'].partition('[')[0]}"
                kinds = {child.tag for child in case}
                outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
                seen[test].append((outcome, float(case.attrib["time"])))
                dates[test] = suite.attrib["timestamp"][:10]
    return {test: _summary(cases, dates[test]) for test, cases in seen.items()}


def _summary(cases: list[tuple[str, float]], date: str) -> str:
    outcomes = {outcome for outcome, _ in cases}
    outcome = next(worst for worst in ("failed", "passed", "skipped") if worst in outcomes)
    return f"{outcome} {date}, {sum(seconds for _, seconds in cases):.0f} s"


def page(runs: Mapping[str, str]) -> str:
    """The page's text."""
    rows = []
    for promise in PROMISES:
        for number, test in enumerate(promise.tests):
            fault, holds = (promise.fault, promise.holds) if number == 0 else ("", "")
            rows.append(f"| {fault} | {holds} | `tests/{test}` | {runs.get(test, 'not yet')} |")
    return _HEAD + "\n".join(rows) + "\n"


def known(text: str) -> dict[str, str]:
    """The results that a page holds."""
    return {row["test"]: row["run"].strip() for row in _ROW.finditer(text)}


if __name__ == "__main__":
    before = known(PAGE.read_text()) if PAGE.exists() else {}
    PAGE.write_text(page(before | results(map(Path, sys.argv[1:]))))
