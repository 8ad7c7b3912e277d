"""The card of a model: what it is, what it has learnt from, how well it does, and how it is loaded. Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from affectgrid.data.features.imported import ENCODED
from affectgrid.data.splits.resident import Split
from affectgrid.reporting.caveat import look_ahead
from affectgrid.training.inference.package import ModelPackage
from affectgrid.training.inference.predict import Scores
from affectgrid.training.manifest import Manifest

_METHOD = (
    "Valence and arousal, each in [-1, 1], of every frame of a video: features of frozen encoders, joined over time "
    "and across streams; in training the regions of the valence-arousal plane were tied to texts (distance-aware soft "
    "prompts, arXiv 2603.13415, as affectgrid reads it)."
)
_INTENDED = (
    "For research on affect in video. The numbers estimate what annotators say of an expression, not what a person "
    "feels; on people, cameras or languages unlike those of the training data nothing is known of their error."
)


def model_card(
    name: str,
    package: ModelPackage,
    scores: Scores,
    splits: Sequence[Split],
    facts: Manifest,
    *,
    caveat: str = "",
    chosen: str = "",
    registered: str | None = None,
) -> str:
    """The whole card.

    Args:
        name: of the model.
        package: the model.
        scores: of the package on the last of the splits.
        splits: what it has learnt from and was scored on.
        facts: where it comes from.
        caveat: what must stand beside its scores.
        chosen: how many models it was chosen among, which flatters its score.
        registered: its name in MLflow's registry.
    """
    split = splits[-1].name
    words = [f"# {name}", _METHOD, f"**{caveat}**" if caveat else "", _INTENDED]
    words += [f"## Score on {split}", _scores(scores)]
    words += [f"Intervals: 95 %, bootstrap over {split} videos. {chosen}".strip()]
    words += ["## Data", _table(["split", "tracks", "frames", "labelled frames"], map(_amounts, splits))]
    words += [f"Fingerprint `{facts.data}`: of the labels, the videos and everything that changes a feature."]
    words += ["## Encoders", _encoders(package), f"Features see {look_ahead(package.encoders) or 'an unknown time'}."]
    words += ["## Model", _table(["setting", "value"], _settings(package).items())]
    words += ["## Origin", _table(["", ""], _origin(facts).items()), "## Use", _use(name, registered)]
    return "\n\n".join(filter(None, words)) + "\n"


def _scores(scores: Scores) -> str:
    own = scores.intervals
    intervals = {"CCC of valence": own.valence, "CCC of arousal": own.arousal, "P, their mean": own.p}
    rows = [(name, f"{i.estimate:.3f}", f"{i.low:.3f} to {i.high:.3f}") for name, i in intervals.items()]
    return _table(["score", "value", "interval"], rows)


def _amounts(split: Split) -> tuple[object, ...]:
    return split.name, split.num_tracks, f"{split.num_frames:,}", f"{int(split.labelled.sum()):,}"


def _encoders(package: ModelPackage) -> str:
    rows = []
    for name in package.model.feature_dims:
        settings = package.encoders.get(f"{name}_stream", "not recorded") if name in ENCODED else "imported"
        shown = f"`{settings}`" if settings.startswith("{") else settings
        fingerprint = package.fingerprints.get(name, "not recorded")
        rows.append((name, package.encoders.get(name, "unknown"), f"`{fingerprint}`", shown))
    return _table(["stream", "encoder", "fingerprint of its features", "settings"], rows)


def _settings(package: ModelPackage) -> dict[str, object]:
    config, window = package.config, package.config.window
    prompt = config.prompt
    grid = f"{package.grid.num_regions} regions of {prompt.file}, texts: {prompt.mode}" if prompt.has_head else "none"
    fused = f"{config.model.fusion}, {config.model.fusion_depth} blocks" if config.model.fuses else "concatenation"
    rate = "the video's" if window.rate_hz is None else f"{window.rate_hz:g} Hz"
    return {
        "streams": ", ".join(config.model.streams),
        "over time": f"{config.model.temporal}, {'causal' if config.model.causal else 'looks both ways'}",
        "fusion": fused,
        "prompts": grid,
        "windows": f"{window.length} frames at {rate} rate",
        "smoothing": f"{window.smooth_half_widths[0]} and {window.smooth_half_widths[1]} frames on each side",
        "parameters": f"{sum(parameter.numel() for parameter in package.model.parameters()):,}",
    }


def _origin(facts: Manifest) -> Mapping[str, str]:
    modified = ", with changes that were not committed" if facts.modified else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items() if version != "unknown")
    return {
        "command": f"`{facts.command}`",
        "commit": f"{facts.commit}{modified}",
        "versions": versions,
        "made": facts.started,
    }


def _use(name: str, registered: str | None) -> str:
    address = f"models:/{registered}@champion" if registered else "models:/MODEL_ID"
    code = [
        "import mlflow",
        "",
        f'model = mlflow.pyfunc.load_model("{address}")',
        'table = model.predict([{"video": "clip.mp4"}])  # a row for each frame: time_s, valence, arousal, ...',
    ]
    shell = [
        f"python jobs/predict.py clip.mp4 --model {address}",
        f"mlflow models serve -m {address} --env-manager virtualenv",
    ]
    return "\n\n".join([_code("python", code), "In a checkout of affectgrid, and as a server:", _code("bash", shell)])


def _code(language: str, lines: Sequence[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
