#!/usr/bin/env bash
# ray_once.sh ray start ...    start Ray on this node, unless this node is already a live member of its cluster
#
# `ray up` runs the start commands each time, also when nothing changed. Ray's default commands begin with `ray stop`, so
# a second `ray up` would end every running job. The autoscaler itself re-reads its configuration without a restart.
#
# Ray starts in the project's folder with the project's environment: a submitted job inherits both, and the settings in
# ~/.affectgrid.env reach the driver and the workers the same way.
set -euo pipefail
cd "$(dirname "$0")/.."
set -a
# shellcheck source=/dev/null
. ~/.affectgrid.env
set +a
export PATH="$PWD/.venv/bin:$PATH"
export RAY_USAGE_STATS_ENABLED=0
ulimit -n 65536 2>/dev/null || true  # where the hard limit is lower, Ray warns and runs

is_member() {  # a raylet may outlive its head for a minute: ask the cluster, not the process table alone
  pgrep -u "$(id -u)" -x raylet >/dev/null && timeout 60 python -c '
import logging, ray
ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
me = ray.get_runtime_context().get_node_id()
raise SystemExit(not any(node["Alive"] and node["NodeID"] == me for node in ray.nodes()))'
}

if is_member; then
  echo "Ray already runs on this node; it and its jobs are left alone"
  exit 0
fi
ray stop
exec "$@"
