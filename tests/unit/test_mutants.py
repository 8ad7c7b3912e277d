"""The list of mistakes that `make mutants` makes cannot rot: each still has its place, and what it makes is Python."""

from __future__ import annotations

import ast

import pytest

from mutation.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mistake_still_has_its_place(repository, mutant):
    source = (repository / "platform" / "affectgrid" / mutant.file).read_text()
    assert source.count(mutant.source) == 1
    mistaken = source.replace(mutant.source, mutant.mistake)
    assert ast.dump(ast.parse(mistaken)) != ast.dump(ast.parse(source))
    for name in mutant.tests:
        assert (repository / "tests" / "unit" / name).is_file()


def test_mistakes_have_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
