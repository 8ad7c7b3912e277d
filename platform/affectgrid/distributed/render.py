"""Render the corpus on all cores: a Ray task per video."""

from __future__ import annotations

from pathlib import Path

import ray

from affectgrid.distributed.cluster import completed, connect
from affectgrid.reporting.progress import bar
from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.corpus import begin_corpus, is_complete, render_video


def render(root: Path, config: RenderConfig | None = None) -> Path:
    """Render the videos that are not there yet and return `root`. Connects to Ray only if there are any."""
    config = config or RenderConfig()
    if is_complete(root, config):
        return root
    plans = begin_corpus(root, config)
    with connect(), bar("render", len(plans), "videos") as advance:
        remote = ray.remote(num_cpus=1)(render_video)
        for _, ready in completed({remote.remote(root, config, plan): plan for plan in plans}):
            ray.get(ready)
            advance(1)
    return root
