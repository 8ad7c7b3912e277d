#!/usr/bin/env bash
# batch_node.sh RANK NODES HEAD_ADDRESS COMMAND...    one Ray cluster for one command, inside a batch system's allocation
#
# Run it once on each node. Rank 0 starts the head, waits for the other nodes, runs the command and ends with its status;
# the others join and leave with the head. Only what this script started is ended: SkyPilot, for one, has a Ray of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
rank=$1 nodes=$2 head=$3
shift 3
port=${AFFECTGRID_RAY_PORT:-6379}
export PATH="$PWD/.venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0
ulimit -n 65536 2>/dev/null || true
start=(ray start --block "--temp-dir=/tmp/ag-$(id -u)-$port")
head_answers() { (exec 3<>"/dev/tcp/$head/$port") 2>/dev/null; }
trap 'kill "$ray" 2>/dev/null; wait "$ray" || true' EXIT

if [ "$rank" != 0 ]; then
  for _ in $(seq 300); do head_answers && break; sleep 1; done
  "${start[@]}" "--address=$head:$port" &
  ray=$!
  sleep 5
  while head_answers && kill -0 "$ray" 2>/dev/null; do sleep 2; done
  exit 0
fi

"${start[@]}" --head "--node-ip-address=$head" "--port=$port" --include-dashboard=false &
ray=$!
export RAY_ADDRESS="$head:$port"
timeout 600 python - "$nodes" <<'P'
import logging, sys, time
import ray
for attempt in range(60):
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
        break
    except ConnectionError:
        time.sleep(1)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(1)
P
# The batch system's SIGTERM goes to the command, which then flushes and says how to resume.
"$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null' TERM INT
status=0
wait "$command" || status=$?
while kill -0 "$command" 2>/dev/null; do wait "$command" && status=0 || status=$?; done  # a signal ends `wait` early
exit "$status"
