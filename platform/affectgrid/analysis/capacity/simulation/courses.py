"""A whole plan, simulated: some courses of its encode run and of its search."""

from __future__ import annotations

from affectgrid.analysis.capacity.planning import CapacityPlan
from affectgrid.analysis.capacity.simulation.encoding import Simulated, simulate_encoding
from affectgrid.analysis.capacity.simulation.search import simulate_search
from affectgrid.errors import ConfigError, Problem

MOST_CHUNKS = 500_000  # a few minutes


def simulate_plan(plan: CapacityPlan, courses: int) -> dict[str, list[Simulated]]:
    """By stage, as many courses as asked for; of the encode runs, which are alike, one.

    The network is not simulated. Raises ConfigError (CFG-SIMULATE) where there are too many chunks, or no end.
    """
    work, conditions = plan.work.share(plan.options.runs), plan.options.conditions
    if work.chunks > MOST_CHUNKS:
        found, expected = f"{work.chunks:,} chunks in a run", f"at most {MOST_CHUNKS:,}"
        hint = "simulate fewer hours, longer chunks or more runs"
        raise ConfigError(Problem("CFG-SIMULATE", where="simulate", found=found, expected=expected, hint=hint))
    found_courses = {
        "encode": [simulate_encoding(work, plan.encode.spot.fleet, conditions, seed) for seed in range(courses)]
    }
    if plan.search_work:
        found_courses["search"] = [
            simulate_search(plan.search_work, plan.fleet, conditions, seed) for seed in range(courses)
        ]
    return found_courses
