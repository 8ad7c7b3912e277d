"""Score a model package, or several together, on a split, and compare others with it, with intervals over videos."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import CatalogOptions, ModelOption, StoreOption


class Evaluate(JobOptions, ModelOption, StoreOption, CatalogOptions):
    """Score models; their own stream settings say how the data are encoded. Several are scored as their mean."""

    split: str = Field("validation", description="train, validation or test")
    against: tuple[str, ...] = Field((), description="packages or ensemble.json files to compare --model with")
    people: Path | None = Field(None, description="CSV with columns track,person: a score within each person too")
    robustness: bool = Field(False, description="score impaired input too: sound or face gone, half the rate, noise")
    fit_weights: bool = Field(False, description="weigh the models as is best on the validation split")
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )
    name: str | None = Field(None, description="of the folder of results; default: the model's run, or 'ensemble'")


def main(options: Evaluate) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.evaluate import evaluate_models
    from affectgrid.distributed.session import connected, open_models
    from affectgrid.reporting.scores import evaluation_note, print_evaluation, write_evaluation
    from affectgrid.training.inference.ensemble import save_ensemble

    ensemble = open_models(options.model, options.out)
    others = [(place, open_models([place], options.out)) for place in options.against]
    with connected(options.out, options.address) as workspace:
        done = evaluate_models(
            ensemble,
            options,
            workspace,
            split=options.split,
            store=options.store,
            fit=options.fit_weights,
            half_widths=options.choose_smoothing,
            against=others,
            people=options.people,
            robustness=options.robustness,
        )
    place = workspace.evaluations / f"{options.name or ensemble.name}-{options.split}"
    note = evaluation_note([ensemble, *dict(others).values()], options.data)
    write_evaluation(place, done, note)
    print_evaluation(done, note, place.address)
    if len(ensemble.members) > 1:
        saved = save_ensemble(place / "ensemble.json", done.ensemble)
        print(f"predict  python jobs/predict.py VIDEO ... --model {saved.address}")
    return 0


if __name__ == "__main__":
    run(main, Evaluate)
