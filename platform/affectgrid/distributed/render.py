"""Render the corpus on all cores: a Ray task per video."""

from __future__ import annotations

from pathlib import Path

import ray

from affectgrid.distributed.cluster import completed, connect
from affectgrid.reporting.progress import bar
from affectgrid.storage import Storage
from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.corpus import begin_corpus, missing, render_video


def render(place: Path | str | Storage, config: RenderConfig | None = None) -> Storage:
    """Render the videos that are not there yet. Connects to Ray only if there are any.

    Where `place` is in a bucket, each task renders on its node's disk, and uploads the video when the rest is there.
    """
    root, config = Storage(place), config or RenderConfig()
    plans = missing(root, begin_corpus(root, config))
    if not plans:
        return root
    with connect(), bar("render", len(plans), "videos") as advance:
        remote = ray.remote(num_cpus=1)(render_video)
        for _, ready in completed({remote.remote(root, config, plan): plan for plan in plans}):
            ray.get(ready)
            advance(1)
    return root
