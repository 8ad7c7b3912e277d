"""Small files in folders, and the codes that a reader refuses them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from affectgrid.data.catalog import Catalog, read_aff_wild2
from affectgrid.errors import CatalogError


def touch(root: Path, *names: str) -> None:
    """Make files; each holds its own name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def codes(root: Path, read: Callable[[Path], Catalog] = read_aff_wild2) -> list[str]:
    """The codes of a corpus that is refused."""
    with pytest.raises(CatalogError) as caught:
        read(root)
    return [problem.code for problem in caught.value.problems]
