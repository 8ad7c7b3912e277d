"""Plan on paper: what hours of video and a search need in time, machines, storage and money, and what limits them."""

from __future__ import annotations

from affectgrid.analysis.capacity.options import PlanOptions
from affectgrid.cli import OutOption, run
from affectgrid.distributed.options import StoreOption


class Plan(OutOption, StoreOption, PlanOptions):
    """Plan encoding and a search by formulas; nothing is read but the times that earlier runs left in the store."""


def main(options: Plan) -> int:
    # here, not above: pyarrow takes a second, and --help or a wrong option does not need it
    from affectgrid.analysis.capacity.planning import make_plan
    from affectgrid.analysis.capacity.simulation.courses import simulate_plan
    from affectgrid.data.features.store import FeatureStore
    from affectgrid.data.features.timings import read_timings
    from affectgrid.data.workspace import Workspace
    from affectgrid.reporting.encoding import print_capacity, print_courses
    from affectgrid.storage import Storage

    store = FeatureStore(options.store or Workspace(Storage(options.out)).features)
    asked = PlanOptions.model_validate(options.model_dump(include=set(PlanOptions.model_fields)))
    plan = make_plan(asked, read_timings(store))
    print_capacity(plan)
    print_courses(plan, simulate_plan(plan, asked.simulate) if asked.simulate else {})
    return 0


if __name__ == "__main__":
    run(main, Plan)
