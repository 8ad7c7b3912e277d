"""The tables of a study: its best trials, its Pareto front or its arms, what failed, and what mattered."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from affectgrid.analysis.bootstrap import Difference
from affectgrid.analysis.importance import MIN_TRIALS, Importance
from affectgrid.analysis.summary import StudySummary
from affectgrid.model.config import FusionConfig
from affectgrid.reporting.caveat import caveat, look_ahead_caveat
from affectgrid.reporting.tables import Table
from affectgrid.search.space.objective import HEADINGS
from affectgrid.search.study.records import TrialRecord, settings, short_name, text

Row = dict[str, str]
_SCORES = {"CCC-V": "val/ccc_valence", "CCC-A": "val/ccc_arousal", "P": "val/p"}


def headline(study: StudySummary) -> str:
    """One line: how many trials, how they ended, how long it took."""
    parts = [f"{len(study.trials)} of {study.num_planned} trials"]
    parts += ["time budget spent"] if study.out_of_time else []
    parts += [f"{len(study.pruned)} ended early"] if study.pruned else []
    parts += [f"{len(study.failed)} failed"] if study.failed else []
    return f"{study.name}: {', '.join(parts)}, {study.wall_s:.0f} s"


def study_caveat(study: StudySummary) -> str:
    """What a reader of the scores must know; may be empty."""
    general = caveat(study.encoders.values(), rendered=study.rendered)
    folds = f"P is the mean over {study.num_folds} folds, each by the model that has not seen it."
    ahead = look_ahead_caveat(study.encoders, causal=_some_causal(study))
    return " ".join(filter(None, (general, folds if study.num_folds else "", ahead)))


def _some_causal(study: StudySummary) -> bool:
    """Whether a trial's model is causal."""
    constants = study.space.get("constants")
    base = constants if isinstance(constants, dict) else {}
    names = [{**base, **trial.params}.get("model.temporal") for trial in study.trials]
    return any(FusionConfig.model_validate({"temporal": name}).causal for name in set(names) if name is not None)


def study_tables(study: StudySummary, *, caveat: bool = True) -> list[Table]:
    """The Pareto front or the arms where there are some, else the best trials; then the failures.

    `caveat` stands below the first, unless the page has it already.
    """
    note = ""
    if study.pareto:
        title, rows = "Pareto front", pareto_rows(study)
        note = "no other trial is at least as good in every objective and better in one"
    elif study.arms:
        title, rows = "Arms", arm_rows(study)
        note = "mean ± standard deviation over the seeds"
        if study.differences:
            note += "; P - ...: 95 % interval over videos and seeds; *: also corrected for all arms, from five seeds on"
    else:
        title, rows = "Best trials", leaderboard(study)
    main = Table.of(title, rows, note="; ".join(filter(None, (note, study_caveat(study) if caveat else ""))))
    failed = failure_rows(study)
    return [main, *([Table.of("Failed trials", failed)] if failed else [])]


def leaderboard(study: StudySummary, top: int = 10) -> list[Row]:
    """The best trials, with the settings in which they differ."""
    names = _varied(study.complete)
    return [
        {"trial": str(trial.number)}
        | {heading: f"{trial.score(metric):.3f}" for heading, metric in _SCORES.items()}
        | {"s": f"{trial.duration_s:.1f}", "settings": settings(trial.params, names)}
        for trial in study.complete[:top]
    ]


def every_trial(study: StudySummary) -> Table:
    """Each trial that ended, with a column for every parameter that any of them had; the best ones first."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    costs = dict.fromkeys(metric for trial in study.trials for metric in trial.costs if study.pareto)
    rest = [trial for trial in study.trials if trial.state != "complete"]
    rows = [
        {"trial": str(trial.number), "state": trial.state}
        | ({} if trial.arm is None else {"arm": trial.arm, "seed": "+".join(str(one.seed) for one in trial.seeds)})
        | {heading: _score(trial.score(metric)) for heading, metric in _SCORES.items()}
        | {HEADINGS[metric]: _cost(trial.costs.get(metric)) for metric in costs}
        | {"s": f"{trial.duration_s:.1f}"}
        | {short_name(name, names): text(trial.params[name]) if name in trial.params else "" for name in names}
        for trial in [*study.complete, *rest]
    ]
    return Table.of(
        "Every trial", rows, note="empty: the parameter was not active in this trial, or it has no score", sortable=True
    )


def pareto_rows(study: StudySummary) -> list[Row]:
    """Every objective of each trial of the front, and its settings."""
    records = {trial.number: trial for trial in study.trials}
    names = _varied([records[point.trial] for point in study.pareto])
    return [
        {"trial": str(point.trial)}
        | {HEADINGS[metric]: _cost(value) for metric, value in point.values.items()}
        | {"settings": settings(records[point.trial].params, names)}
        for point in study.pareto
    ]


def arm_rows(study: StudySummary) -> list[Row]:
    """Mean and standard deviation over the seeds of every arm, and how far P lies from the first arm's."""
    rows = []
    for name, trials in study.arms.items():
        row = {"arm": name, "seeds": str(len(trials))}
        row |= {heading: spread([trial.score(metric) for trial in trials]) for heading, metric in _SCORES.items()}
        if study.differences:
            row[f"P - {next(iter(study.arms))}"] = _interval(study.differences.get(name))
        rows.append(row | {"s": f"{sum(trial.duration_s for trial in trials):.0f}"})
    return rows


def failure_rows(study: StudySummary) -> list[Row]:
    """Failed trials, and confirming runs that failed, with their reasons."""
    found = study.confirmation
    runs = [(one.role, run) for one in (found.default, found.winner) if one for run in one.runs] if found else []
    return [
        {"trial": str(trial.number), "what": trial.label, "reason": trial.reason or "unknown"} for trial in study.failed
    ] + [
        {"trial": f"confirm {role}", "what": f"seed {run.seed}", "reason": run.reason}
        for role, run in runs
        if run.reason is not None
    ]


def importance_rows(found: Importance) -> list[Row]:
    """The searched parameters, the most important first; empty where there are too few trials."""
    return [
        {
            "parameter": one.name,
            "importance": f"{one.share:.0%}",
            "above chance": "yes" if one.telling else "no",
            "trials": str(one.num_trials),
        }
        for one in found.parameters
    ]


def importance_note(found: Importance) -> str:
    """How to read the table, or why there is none."""
    if found.num_trials < MIN_TRIALS:
        return f"{found.num_trials} complete trials are too few to weigh parameters; {MIN_TRIALS} are needed."
    return (
        f"PED-ANOVA: how far the best {found.num_top} of {found.num_trials} complete trials differ from all of them in "
        "each parameter. Above chance: in 19 of 20 shuffles of the scores no parameter is. "
        "Trials ended early do not count."
    )


def spread(values: Sequence[float]) -> str:
    """``mean ± standard deviation`` (n - 1); the value alone where there is one."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _cost(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removesuffix(".000")


def _interval(found: Difference | None) -> str:
    """A difference with its 95 % interval; a star where it holds when corrected."""
    if found is None:
        return ""
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{'*' if found.holds else ''}"


def _varied(trials: Sequence[TrialRecord]) -> list[str]:
    """Parameters that differ between the trials, in their order of appearance."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({text(trial.params.get(name)) for trial in trials}) > 1]
