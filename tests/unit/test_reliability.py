"""The page of promises names tests that exist, and is what its sources say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from promises import PROMISES
from reliability import PAGE, known, page, results

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("test", [test for promise in PROMISES for test in promise.tests])
def test_a_promise_has_its_test(test: str):
    file, _, function = test.partition("::")
    names = {node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)}
    assert function in names


def test_the_page_is_made_of_the_promises():
    assert page(known(PAGE.read_text())) == PAGE.read_text()


def test_a_report_is_added_up_by_test(tmp_path: Path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite timestamp="2026-11-26T10:00:00">'
        '<testcase classname="tests.faults.test_a" name="test_one[x]" time="1.4"/>'
        '<testcase classname="tests.faults.test_a" name="test_one[y]" time="2"><failure/></testcase>'
        '<testcase classname="tests.faults.test_a" name="test_two" time="0"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    expected = {
        "faults/test_a.py::test_one": "failed 2026-11-26, 3 s",
        "faults/test_a.py::test_two": "skipped 2026-11-26, 0 s",
    }
    assert results([report]) == expected
