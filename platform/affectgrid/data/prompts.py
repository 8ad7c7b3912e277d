"""Grid files: regions of the plane with the texts that describe them, from YAML."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.regions import RegionGrid
from affectgrid.settings import Settings, parse_yaml

_MAX_BYTES = 1 << 20
_TOLERANCE = 5e-4  # files write 0.667 for two thirds


class _Square(Settings):
    kind: Literal["square"]
    n: int = Field(ge=2, le=32)
    extent: float | None = Field(None, gt=0, le=1)

    def build(self, regions: tuple[_Region, ...]) -> RegionGrid:
        return RegionGrid.square(self.n, extent=self.extent)


class _Rectangle(Settings):
    kind: Literal["rectangle"]
    valence: int = Field(ge=1, le=32)
    arousal: int = Field(ge=1, le=32)

    def build(self, regions: tuple[_Region, ...]) -> RegionGrid:
        return RegionGrid.rectangle(self.valence, self.arousal)


class _Polar(Settings):
    kind: Literal["polar"]
    sectors: int = Field(ge=2, le=64)
    radius: float = Field(2 / 3, gt=0, le=1)

    def build(self, regions: tuple[_Region, ...]) -> RegionGrid:
        # 0.667 in a file means 2/3, and must give the centres that the code's own default gives
        radius = 2 / 3 if abs(self.radius - 2 / 3) < _TOLERANCE else self.radius
        return RegionGrid.polar(self.sectors, radius=radius)


class _Explicit(Settings):
    kind: Literal["explicit"]

    def build(self, regions: tuple[_Region, ...]) -> RegionGrid:
        centres = [region.centre for region in regions if region.centre is not None]
        return RegionGrid.explicit(centres, [region.name for region in regions])


class _Region(Settings):
    name: str = Field(min_length=1)
    centre: tuple[float, float] | None = None
    texts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)


class _File(Settings):
    name: str = Field(min_length=1)
    grid: _Square | _Rectangle | _Polar | _Explicit = Field(discriminator="kind")
    regions: tuple[_Region, ...] = Field(min_length=2)


class PromptSet(Settings):
    """A grid and the texts of its regions.

    Args:
        name: from the file; results are listed under it.
        grid: centres, with the file's names, in ``RegionGrid``'s order.
        texts: at least one for every region, in the same order.
    """

    name: str
    grid: RegionGrid
    texts: tuple[tuple[str, ...], ...]


def prompt_folders() -> tuple[Path, ...]:
    """Where prompt sets are looked up by name: AFFECTGRID_PROMPTS, else search_spaces/prompts of this repository."""
    repository = Path(__file__).resolve().parents[3] / "search_spaces" / "prompts"
    here = Path.cwd() / "search_spaces" / "prompts"  # a Ray worker's package is outside the repository
    named = os.environ.get("AFFECTGRID_PROMPTS")
    return tuple(dict.fromkeys([*([Path(named)] if named else []), repository, here]))


def prompt_names() -> tuple[str, ...]:
    """Every prompt set that can be loaded by name, sorted."""
    return tuple(sorted({path.stem for folder in prompt_folders() for path in folder.glob("*.yaml")}))


def load_prompt_set(name_or_path: str | Path) -> PromptSet:
    """Load a prompt set by name, or from a path that ends in .yaml.

    Raises ConfigError: CFG-PROMPTS (not found), CFG-YAML (not safe YAML), CFG-UNKNOWN (a key), CFG-VALUE (a field),
    CFG-REGIONS (regions that do not fit the grid), CFG-GRID.
    """
    path = _find(str(name_or_path))
    content = _load_yaml(path)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise ConfigError(*_explain(path, error)) from error
    if isinstance(file.grid, _Explicit):
        _require_centres(path, file.regions)
    grid = file.grid.build(file.regions)
    problems = list(_misfits(path, grid, file.regions))
    if problems:
        raise ConfigError(*problems)
    named = RegionGrid(grid.centres, tuple(region.name for region in file.regions))
    return PromptSet(name=file.name, grid=named, texts=tuple(region.texts for region in file.regions))


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path
    elif "/" not in name and "\0" not in name:
        for folder in prompt_folders():
            if (path := folder / f"{name}.yaml").is_file():
                return path
    known = prompt_names()
    hint = nearest(name, known) if known else "set AFFECTGRID_PROMPTS to their folder"
    raise ConfigError(
        Problem(
            "CFG-PROMPTS",
            where=repr(name),
            found="no such prompt set",
            expected="a known name or a .yaml file",
            hint=hint,
        )
    )


def _load_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        found = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(
            Problem("CFG-YAML", where=where, found=found, expected="plain YAML", hint="correct the file")
        ) from error


def _explain(path: Path, error: ValidationError) -> Iterator[Problem]:
    known = sorted({name for kind in (_File, _Region, _Square, _Rectangle, _Polar) for name in kind.model_fields})
    for fault in error.errors():
        where = f"{path}: {'.'.join(str(part) for part in fault['loc']) or 'top level'}"
        if fault["type"] == "extra_forbidden":
            hint = nearest(str(fault["loc"][-1]), known)
            yield Problem("CFG-UNKNOWN", where=where, found="an unknown key", expected="a known one", hint=hint)
        else:
            found = f"{str(fault['input'])[:60]!r}" if fault["type"] != "missing" else "nothing"
            yield Problem("CFG-VALUE", where=where, found=found, expected=fault["msg"], hint="correct the file")


def _require_centres(path: Path, regions: tuple[_Region, ...]) -> None:
    without = [region.name for region in regions if region.centre is None]
    if without:
        expected = "centre: [valence, arousal] in every region of an explicit grid"
        raise ConfigError(
            Problem(
                "CFG-REGIONS", where=str(path), found=f"no centre in {without[0]!r}", expected=expected, hint="add it"
            )
        )


def _misfits(path: Path, grid: RegionGrid, regions: tuple[_Region, ...]) -> Iterator[Problem]:
    if len(regions) != grid.num_regions:
        found = f"{len(regions)} regions"
        yield Problem(
            "CFG-REGIONS",
            where=str(path),
            found=found,
            expected=f"{grid.num_regions}, as the grid has",
            hint="add or remove regions",
        )
        return
    for region, centre in zip(regions, grid.centres, strict=True):
        if region.centre is not None and not all(
            math.isclose(told, true, abs_tol=_TOLERANCE) for told, true in zip(region.centre, centre, strict=True)
        ):
            expected = f"[{centre[0]:.3f}, {centre[1]:.3f}], the grid's centre at this position"
            yield Problem(
                "CFG-REGIONS",
                where=f"{path}: {region.name}",
                found=str(list(region.centre)),
                expected=expected,
                hint="reorder or correct it",
            )
    names = [region.name for region in regions]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(
            "CFG-REGIONS",
            where=str(path),
            found=f"two regions named {name!r}",
            expected="unique names",
            hint="rename one",
        )
