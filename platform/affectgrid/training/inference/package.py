"""The model package: one folder with everything that a prediction needs, and nothing pickled."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from affectgrid.errors import ModelError, Problem
from affectgrid.model.fusion import CONTEXT, FusionModel
from affectgrid.regions import RegionGrid
from affectgrid.storage import replace_directory, write_json
from affectgrid.training.build import blank_model
from affectgrid.training.config import METHOD_VERSION, TrainConfig
from affectgrid.training.manifest import Manifest

_STREAM, _CARRIED = "_stream", "encoders/"  # ends the name of a stream's settings; begins the path of a carried encoder


@dataclasses.dataclass(frozen=True)
class ModelPackage:
    """A trained model and what must go with it.

    Args:
        model: on the CPU, in evaluation mode.
        config: of the run; its window settings are used to predict.
        grid: the regions of its prompt head, and of every score by region.
        encoders: what made the features of each stream, e.g. ``{"visual": "tiny", "audio": "tiny"}``.
        metrics: scores of the kept epoch.
        manifest: where it comes from; None where that was not recorded.
        fingerprints: by stream, of the features that it has learnt from; empty where that was not recorded.
    """

    model: FusionModel
    config: TrainConfig
    grid: RegionGrid
    encoders: dict[str, str]
    metrics: dict[str, float]
    manifest: dict[str, Any] | None = None
    fingerprints: dict[str, str] = dataclasses.field(default_factory=dict)


def save_package(
    folder: Path,
    model: FusionModel,
    config: TrainConfig,
    grid: RegionGrid,
    *,
    encoders: dict[str, str],
    metrics: dict[str, float],
    manifest: Manifest | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """Write ``config.json grid.json model.safetensors manifest.json``; a package that is there is replaced.

    Learnable context is written as the resulting features of the regions' texts, so that a prediction needs no text
    encoder.
    """
    model.eval()  # which brings those features up to date
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights = {name: value for name, value in weights.items() if not name.startswith(CONTEXT)}
    facts = {"encoders": encoders, "metrics": metrics, "manifest": manifest.as_dict() if manifest else None}
    facts["fingerprints"] = dict(fingerprints or {})
    with replace_directory(folder) as draft:
        save_file(weights, draft / "model.safetensors")
        write_json(draft / "config.json", {"version": METHOD_VERSION, "config": config.model_dump(mode="json")})
        write_json(draft / "grid.json", dataclasses.asdict(grid))
        write_json(draft / "manifest.json", facts)
    return folder


def load_package(folder: Path) -> ModelPackage:
    """Read a model package.

    Raises ModelError: PKG-READ, PKG-VERSION for a model of another version of the method, whose predictions would
    differ from those that were scored, and PKG-SHAPE with the first tensors that do not fit.
    """
    try:
        content = json.loads((folder / "config.json").read_text())
        _require_version(folder, content["version"])
        config = TrainConfig.model_validate(content["config"])
        grid = RegionGrid.explicit(**json.loads((folder / "grid.json").read_text()))
        facts = json.loads((folder / "manifest.json").read_text())
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, TypeError, KeyError, ValidationError, SafetensorError) as error:
        hint = "give the folder that train or tune wrote, or write it again"
        raise ModelError(
            Problem("PKG-READ", where=str(folder), found=str(error), expected="a model package", hint=hint)
        ) from error
    model = _shaped_like(weights, config, grid)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        differ = [name for name in sorted(expected | found) if expected.get(name) != found.get(name)][:3]
        text = "; ".join(
            f"{name} {found.get(name, 'absent')} instead of {expected.get(name, 'none')}" for name in differ
        )
        hint = "use the weights that were saved with this config.json"
        raise ModelError(
            Problem(
                "PKG-SHAPE",
                where=str(folder / "model.safetensors"),
                found=text,
                expected="the model of config.json",
                hint=hint,
            )
        )
    model.load_state_dict(weights)
    encoders = {name: _resolved(value, folder) for name, value in facts["encoders"].items()}
    own = encoders, facts["metrics"], facts["manifest"], facts.get("fingerprints", {})
    return ModelPackage(model.eval(), config, grid, *own)


def carry_encoders(folder: Path) -> None:
    """Copy encoders and landmark predictors that are paths of this machine into a package, which refers to the copies.

    Names of a hub stay names: whoever loads the model fetches them.
    """
    facts = json.loads((folder / "manifest.json").read_text())
    encoders = facts["encoders"]
    for name, text in list(encoders.items()):
        stream = json.loads(text) if name.endswith(_STREAM) else {}
        for key in ("model", "landmarks"):
            source = Path(stream.get(key) or "")
            if not stream.get(key) or not source.exists():
                continue
            copy = f"{_CARRIED}{name.removesuffix(_STREAM)}-{key}"
            (shutil.copytree if source.is_dir() else _copy_file)(source, folder / copy)
            stream[key] = copy
        if stream:
            encoders[name] = json.dumps(stream)
            encoders[name.removesuffix(_STREAM)] = stream.get("model", encoders[name.removesuffix(_STREAM)])
    write_json(folder / "manifest.json", facts)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _resolved(encoder: str, folder: Path) -> str:
    """With absolute paths in place of what `carry_encoders` wrote, in a name or in the JSON of a stream's settings."""
    return re.sub(rf'(^|"){re.escape(_CARRIED)}', lambda found: f"{found[1]}{folder.resolve()}/{_CARRIED}", encoder)


def _require_version(folder: Path, version: int) -> None:
    if version != METHOD_VERSION:
        found, expected = f"version {version} of the method", f"version {METHOD_VERSION}"
        hint = "train it again, or use the release that made it"
        raise ModelError(
            Problem("PKG-VERSION", where=str(folder / "config.json"), found=found, expected=expected, hint=hint)
        )


def _shaped_like(weights: dict[str, Any], config: TrainConfig, grid: RegionGrid) -> FusionModel:
    """A model as wide as its saved inputs; one without any is built too, and then refused for its shape."""

    def width(name: str) -> int | None:
        return int(weights[name].shape[-1]) if name in weights else None

    dims = {stream: width(f"inputs.{stream}.project.weight") or 1 for stream in config.model.streams}
    return blank_model(config, dims=dims, grid=grid, prompt_dim=width("prompt_head.text_features"))
