"""Train one configuration on one or many workers. The same command resumes after a kill."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import DataOptions, WorkersOption
from affectgrid.training.config import TrainConfig


class Train(JobOptions, DataOptions, WorkersOption):
    """Train and keep the best epoch as a model package under OUT/runs/NAME/model."""

    name: str = Field("train", description="name of the run: the same name resumes, another starts afresh")
    config: TrainConfig = TrainConfig()
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )


def main(options: Train) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.evaluate import choose_smoothing
    from affectgrid.distributed.prepare import prepare
    from affectgrid.distributed.session import tracked
    from affectgrid.distributed.train.run import train
    from affectgrid.reporting.caveat import caveat, look_ahead_caveat
    from affectgrid.reporting.scores import smoothing_lines
    from affectgrid.reporting.training import print_training
    from affectgrid.training.inference.package import load_package

    with tracked(options.out, options.address) as session:
        prompt, streams = options.config.prompt, options.config.model.streams
        prepared = prepare(options, session.workspace, [prompt.file], [prompt.mode], streams)
        result = train(
            options.config,
            prepared,
            num_workers=options.num_workers,
            max_failures=options.max_failures,
            storage=session.workspace.runs,
            name=options.name,
            tracker=session.tracker,
        )
    place = result.place / result.package.name
    if options.choose_smoothing:
        package, validation = load_package(result.package), prepared.validation
        _, curve = choose_smoothing(place, package, validation, options.choose_smoothing)
        print(*smoothing_lines(curve), sep="\n")
    encoders = prepared.train.encoders
    notes = (
        caveat(encoders.values(), rendered=options.data == "rendered"),
        look_ahead_caveat(encoders, causal=options.config.model.causal),
    )
    print_training(place.address, result.best, session.tracker.open_command, " ".join(filter(None, notes)))
    return 0


if __name__ == "__main__":
    run(main, Train)
