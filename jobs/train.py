"""Train one configuration on one or many workers. The same command resumes after a kill."""

from __future__ import annotations

import functools

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import DataOptions, EverythingOption, RegisterOption, WorkersOption
from affectgrid.training.config import TrainConfig


class Train(JobOptions, DataOptions, WorkersOption, EverythingOption, RegisterOption):
    """Train and keep the best epoch as a model package under OUT/runs/NAME/model."""

    name: str = Field("train", description="name of the run: the same name resumes, another starts afresh")
    config: TrainConfig = TrainConfig()
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )


def main(options: Train) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.evaluate import choose_smoothing
    from affectgrid.distributed.folds import train_folds
    from affectgrid.distributed.prepare import prepare, prepare_folds
    from affectgrid.distributed.session import tracked
    from affectgrid.distributed.train.publish import REPORT, publish
    from affectgrid.distributed.train.run import train
    from affectgrid.reporting.training import print_folds, print_training, training_note

    config, widths = options.for_folds(options.config), options.choose_smoothing
    with tracked(options.out, options.address) as session:
        runs, tracker, workspace = session.workspace.runs, session.tracker, session.workspace
        if options.register_as:
            tracker.require_registry()
        one = functools.partial(train, config, storage=runs, tracker=tracker, max_failures=options.max_failures)
        one = functools.partial(one, num_workers=options.num_workers)
        what = [config.prompt.file], [config.prompt.mode], config.model.streams
        if options.folds:
            data = prepare_folds(options, workspace, *what, num_folds=options.folds, seed=options.fold_seed)
            done = train_folds(config, data, one, place=runs / options.name, name=options.name, half_widths=widths)
            print_folds(done, training_note(data.whole.encoders, config, options.data), tracker.open_command)
            return 0
        prepared = prepare(options, workspace, *what, everything=options.everything)
        result = one(prepared, name=options.name)
        place, held_out = result.place / result.package.name, not options.everything
        curve = choose_smoothing([place], [prepared.validation], widths)[1] if widths else None
        note = training_note(prepared.train.encoders, config, options.data, held_out=held_out)
        publish(result, prepared, tracker, name=options.name, note=note, register=options.register_as)
    report = result.place.show(REPORT, "report.html")
    print_training(place.address, result.best, tracker.open_command, note, curve, report=report)
    return 0


if __name__ == "__main__":
    run(main, Train)
