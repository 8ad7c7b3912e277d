"""Train one configuration on one or many workers. The same command goes on after a kill."""

from __future__ import annotations

from pydantic import Field, model_validator

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.options import DataOptions
from affectgrid.training.config import TrainConfig


class Train(JobOptions, DataOptions):
    """Train and keep the best epoch as a model package under OUT/runs/NAME/model."""

    name: str = Field("train", description="name of the run: the same name goes on, another name starts afresh")
    config: TrainConfig = TrainConfig()
    workers: int = Field(1, gt=0, description="training processes; the batch is shared among them")
    min_workers: int | None = Field(
        None, gt=0, description="elastic: go on with as few as this when nodes go, and grow back to --workers"
    )
    max_failures: int = Field(3, ge=-1, description="how often workers may die before the run gives up; -1: never")
    choose_smoothing: tuple[int, ...] = Field(
        (), description="half-widths to compare on the validation split; the best is kept in the model package"
    )

    @model_validator(mode="after")
    def _fewest_first(self) -> Train:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is above workers {self.workers}; swap them")
        return self


def main(options: Train) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.distributed.prepare import prepare
    from affectgrid.distributed.session import tracked
    from affectgrid.distributed.train.run import train
    from affectgrid.reporting.caveat import caveat
    from affectgrid.reporting.scores import smoothing_lines
    from affectgrid.reporting.training import print_training
    from affectgrid.training.inference.package import load_package
    from affectgrid.training.inference.smoothing import keep_choice, smoothing_curve

    with tracked(options.out, options.address) as session:
        prompt = options.config.prompt
        prepared = prepare(options, session.workspace, prompt_files=[prompt.file], prompt_modes=[prompt.mode])
        result = train(
            options.config,
            prepared,
            num_workers=(options.min_workers, options.workers) if options.min_workers else options.workers,
            max_failures=options.max_failures,
            storage=session.workspace.runs.folder,
            name=options.name,
            tracker=session.tracker,
        )
    if options.choose_smoothing:
        package = load_package(result.package)
        curve = smoothing_curve(package, prepared.validation, options.choose_smoothing)
        keep_choice(result.package, package, curve)
        print(*smoothing_lines(curve), sep="\n")
    note = caveat(prepared.train.encoders.values(), rendered=options.data == "rendered")
    print_training(result.package, result.best, session.tracker.open_command, note)
    return 0


if __name__ == "__main__":
    run(main, Train)
