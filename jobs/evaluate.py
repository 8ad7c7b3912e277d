"""Score a model package, or several together, on a split: CCC with intervals, error by region, figures."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import CatalogOptions, ModelOption, StoreOption


class Evaluate(JobOptions, ModelOption, StoreOption, CatalogOptions):
    """Score models; their own stream settings say how the data are encoded. Several are scored as their mean."""

    split: str = Field("validation", description="train, validation or test")
    fit_weights: bool = Field(False, description="weigh the models as is best on the validation split")
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )
    name: str | None = Field(None, description="of the folder of results; default: the model's run, or 'ensemble'")


def main(options: Evaluate) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.evaluate import evaluate_models
    from affectgrid.distributed.session import connected, open_models
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.scores import ensemble_lines, print_scores, smoothing_lines, write_scores
    from affectgrid.storage import results
    from affectgrid.training.inference.ensemble import save_ensemble

    ensemble = open_models(options.model, options.out)
    several = len(ensemble.members) > 1
    with connected(options.out, options.address) as workspace:
        done = evaluate_models(
            ensemble,
            options,
            workspace,
            split=options.split,
            store=options.store,
            fit=options.fit_weights,
            half_widths=options.choose_smoothing,
        )
    name = options.name or ("ensemble" if several else ensemble.places[0].split()[0].split()[1])
    place = workspace.evaluations / f"{name}-{options.split}"
    used = {name for encoders in ensemble.encoders for name in encoders.values()}
    note = caveat(used, rendered=options.data == "rendered")
    with results(place) as folder:
        write_scores(folder, done.scores, done.predictions, done.split, ensemble.members[0].grid, note)
    print_scores(done.scores, note, place.address)
    for line in [*ensemble_lines(done.ensemble, done.member_p), *smoothing_lines(done.curve)]:
        print(line)
    if several:
        saved = save_ensemble(place / "ensemble.json", done.ensemble)
        print(f"predict  python jobs/predict.py VIDEO ... --model {saved.address}")
    return 0


if __name__ == "__main__":
    run(main, Evaluate)
