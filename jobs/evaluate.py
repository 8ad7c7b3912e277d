"""Score a model package, or several together, on a split: CCC with intervals over tracks, error by region, figures."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import StoreOption


class Evaluate(JobOptions, StoreOption):
    """Score models; their own stream settings say how the data are encoded. Several are scored as their mean."""

    model: tuple[Path, ...] = Field(
        min_length=1, description="model packages (the folders that train or tune wrote), or one ensemble.json"
    )
    data: str = Field("rendered", description="folder or URI in Aff-Wild2's layout, or 'rendered'")
    split: str = Field("validation", description="train, validation or test")
    fit_weights: bool = Field(False, description="weigh the models as is best on the validation split")
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )
    name: str | None = Field(None, description="of the folder of results; default: the model's run, or 'ensemble'")


def main(options: Evaluate) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.evaluate import evaluate_models
    from affectgrid.distributed.session import connected
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.scores import ensemble_lines, print_scores, smoothing_lines, write_scores
    from affectgrid.training.inference.ensemble import load_ensemble, save_ensemble

    ensemble = load_ensemble(options.model)
    with connected(options.out, options.address) as workspace:
        done = evaluate_models(
            ensemble,
            options.data,
            workspace,
            split=options.split,
            store=options.store,
            fit=options.fit_weights,
            half_widths=options.choose_smoothing,
        )
    several = len(ensemble.members) > 1
    name = options.name or ("ensemble" if several else ensemble.folders[0].resolve().parent.name)
    folder = workspace.evaluations.folder / f"{name}-{options.split}"
    first = ensemble.members[0]
    note = caveat({name for used in ensemble.encoders for name in used.values()}, rendered=options.data == "rendered")
    write_scores(folder, done.scores, done.predictions, done.split, first.grid, note)
    print_scores(done.scores, note, folder)
    for line in [*ensemble_lines(done.ensemble, done.member_p), *(smoothing_lines(done.curve) if done.curve else ())]:
        print(line)
    if several:
        saved = save_ensemble(folder / "ensemble.json", done.ensemble)
        print(f"predict  python jobs/predict.py --model {saved} --videos ...")
    return 0


if __name__ == "__main__":
    run(main, Evaluate)
