"""What MLflow's pages say of a study and of its trials: names of runs, columns, and notes in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from affectgrid.analysis.summary import StudySummary
from affectgrid.reporting.study.tables import headline, study_caveat
from affectgrid.search.study.records import TrialRecord, text

_MAX_NAME = 60  # characters that the list of runs shows
_MAX_COLUMNS = 8
SORT_BY = "metrics.`best/p`"


def run_name(number: int, label: str, values: dict[str, Any], *, arm: str | None = None, p: float | None = None) -> str:
    """``#09 P .736 learned 3x3-plain .5``: what is looked for first, then the searched values, or arm and seed."""
    what = label if arm else " ".join(text(value) for value in values.values()) or label
    score = "" if p is None else f" P {_short(p)}"
    name = f"#{number:02d}{score} {what}"
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def columns(searched: Sequence[str]) -> list[str]:
    """The columns of a study's page: scores, the first searched settings, time and state."""
    scores = ["metrics.`best/p`", "metrics.`best/ccc_valence`", "metrics.`best/ccc_arousal`"]
    settings = [f"params.`{name}`" for name in list(searched)[:_MAX_COLUMNS]]
    return [*scores, *settings, "attributes.`Duration`", "tags.`state`"]


def study_note(study: StudySummary, report: str) -> str:
    """For the study's run: what was run, what came out, what to make of it, and how to go on."""
    lines = [f"**{headline(study)}**", study.description, study_caveat(study)]
    if study.best is not None:
        lines.append(_best(study, study.best))
    lines.append(f"Report: `{report}`. Commit {study.commit[:12]}. The same command resumes or extends:")
    return "\n\n".join([*filter(None, lines), _code([f"python {_job(study.command)}"])])


def trial_note(study: StudySummary, trial: TrialRecord) -> str:
    """For the best trial's run: its scores and the commands that score it and predict with it."""
    model = f"{study.folder}/best/model"
    commands = [
        f"python jobs/evaluate.py --model {model}",
        f"python jobs/predict.py VIDEO --model {model}",
    ]
    return "\n\n".join([_best(study, trial), study_caveat(study), _code(commands)])


def experiment_note() -> str:
    """For the experiment."""
    return (
        "Valence and arousal from video, by affectgrid. A run for each study, below it one for each trial, and below "
        "that one for each seed where there are several. P is the mean of the concordance correlation coefficients "
        "(CCC) of valence and of arousal, over all labelled frames of the validation split together. The link that a "
        "study prints opens its trials, the best first."
    )


def _best(study: StudySummary, trial: TrialRecord) -> str:
    valence, arousal = trial.score("val/ccc_valence"), trial.score("val/ccc_arousal")
    chosen = f" Chosen among {len(study.complete)} trials by the same videos, which flatters it"
    flattery = "" if study.choice_optimism is None else f" by about {study.choice_optimism:+.3f}"
    return (
        f"Best: trial {trial.number}, P {trial.score('val/p'):.3f} (valence {valence:.3f}, arousal {arousal:.3f}): "
        f"{trial.label}.{chosen}{flattery}."
    )


def _short(p: float) -> str:
    """``.736`` and ``-.012``."""
    return f"{p:.3f}".replace("0.", ".", 1)


def _job(command: str) -> str:
    return command if command.startswith("jobs/") else f"jobs/{command}"


def _code(commands: Sequence[str]) -> str:
    return "\n".join(["```bash", *commands, "```"])
