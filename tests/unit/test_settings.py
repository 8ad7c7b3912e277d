"""Dotted names: what `flatten` takes apart `unflatten` puts together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectgrid.settings import Settings, flatten, get, unflatten

NAMES = st.text("ab_", min_size=1, max_size=3)
NESTED = st.recursive(
    st.integers() | st.none() | st.text(max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
)


class Inner(Settings):
    pair: tuple[float, float] = (0.0, 1.0)


class Outer(Settings):
    inner: Inner = Inner()
    name: str = "x"


@given(st.dictionaries(NAMES, NESTED, max_size=3))
def test_flattening_is_undone_by_unflattening(nested: dict[str, object]) -> None:
    values = flatten(nested)
    assert unflatten(values) == nested
    assert all(get(nested, name) == value for name, value in values.items())


def test_models_are_addressed_as_plain_values() -> None:
    assert flatten(Outer()) == {"inner.pair": [0.0, 1.0], "name": "x"}
    assert get(Outer(), "inner.pair") == [0.0, 1.0]
    assert flatten({"a": {}, "b": {"c": {}}}) == {"a": {}, "b.c": {}}
    with pytest.raises(KeyError):
        get(Outer(), "inner.none")
