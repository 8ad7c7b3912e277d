"""Scale test without the data set: write a SYNTHETIC corpus of Aff-Wild2's size and shape, train on it, tell time."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import OutOption, run
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.synthetic.scale_corpus import ScaleConfig, write_corpus
from affectgrid.training.config import OptimConfig, TrainConfig


class Scale(OutOption, ScaleConfig):
    """Write what is not there yet (2.7 GB at full size, 5.3 more where features are mapped), train, report.

    Features and labels are drawn from a seed: time and memory are those of the data set, scores are not.
    """

    config: TrainConfig = TrainConfig(optim=OptimConfig(epochs=2))
    feed: FeedOptions = FeedOptions()
    threads: int = Field(1, gt=0, description="threads of the training process")


def main(options: Scale) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    import torch

    from affectgrid.analysis.scale import run_scale
    from affectgrid.data.features.store import FeatureStore
    from affectgrid.data.workspace import Workspace
    from affectgrid.reporting.progress import bar
    from affectgrid.reporting.training import print_scale
    from affectgrid.storage import Storage, results

    torch.set_num_threads(options.threads)
    workspace = Workspace.open(Storage(options.out) / "scale")
    settings = ScaleConfig.model_validate(options.model_dump(include=set(ScaleConfig.model_fields)))
    root = workspace.node_folder(f"corpora/synthetic-{settings.fingerprint('visual')}")
    with bar("Writing the synthetic corpus", settings.num_frames, "frames") as advance:
        corpus = write_corpus(root, FeatureStore(workspace.features), settings, advance)
    with bar("Training", options.config.optim.epochs, "epochs") as advance:
        report = run_scale(corpus, options.config, options.feed, workspace.mapped, lambda metrics: advance(1))
    with results(workspace.root) as folder:
        print_scale(report, folder)
    return 0


if __name__ == "__main__":
    run(main, Scale)
