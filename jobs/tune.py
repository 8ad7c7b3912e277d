"""Search kernel sigma, grid, prompts and fusion depth. Without arguments: the whole chain on the rendered corpus."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import Field

from affectgrid.cli import CHECKOUT, JobOptions, run
from affectgrid.distributed.options import DataOptions, LogModelsOption


class Tune(JobOptions, DataOptions, LogModelsOption):
    """Run a search space. The same command resumes after a kill. Exit status 0: all trials finished; 1: some failed."""

    space: Path = Field(CHECKOUT / "search_spaces" / "smoke.yaml", description="the search space")
    name: str | None = Field(None, description="name of the study; by default the space's own")
    trials: int | None = Field(None, gt=0, description="number of trials, instead of the space's own")
    time_budget: str | None = Field(None, description="no trial begins after it, e.g. 2h or 90min; running ones end")
    extend: int = Field(0, ge=0, description="add so many trials to a study that is done")
    warm_start: str | None = Field(None, description="older study (name, folder or URI) that teaches the sampler")
    max_concurrent: int | None = Field(None, gt=0, description="trials at a time; default: what the cluster holds")
    workers_per_trial: int = Field(1, gt=0, description="processes that train one trial together, by Ray Train")
    confirm: int = Field(0, ge=0, description="fresh seeds with which the winner and the default are trained again")


def main(options: Tune) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.prepare import prepare, prepare_folds
    from affectgrid.distributed.session import tracked
    from affectgrid.distributed.tune.resources import TrialResources
    from affectgrid.distributed.tune.run import tune
    from affectgrid.reporting.study.report import print_study
    from affectgrid.search.space import load_space
    from affectgrid.search.study.warm_start import find_study

    space = load_space(options.space, name=options.name, trials=options.trials, time_budget=options.time_budget)
    with tracked(options.out, options.address) as session:
        what = space.prompt_files(), space.values_of("prompt.mode"), space.streams()
        folds = functools.partial(prepare_folds, num_folds=options.folds, seed=options.fold_seed)
        prepared = (folds if options.folds else prepare)(options, session.workspace, *what)
        summary = tune(
            space,
            prepared,
            storage=session.workspace.studies,
            tracker=session.tracker,
            max_concurrent=options.max_concurrent,
            extend=options.extend,
            warm_start=find_study(options.warm_start, session.workspace.studies),
            resources=TrialResources(workers=options.workers_per_trial),
            num_confirm=options.confirm,
            models=options,
        )
    print_study(summary, session.tracker.open_command, session.tracker.link(space.name), session.workspace.root)
    return 1 if summary.num_failed else 0


if __name__ == "__main__":
    run(main, Tune)
