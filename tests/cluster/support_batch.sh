#!/usr/bin/env bash
# Runs on the network that support_machines.sh makes: deploy/batch_node.sh on two machines, as a batch system starts it.
# support_batch.sh PROJECT    a folder that both machines see; prints what the command saw, and each node's exit status
set -uo pipefail
project=$1
on() {
  ssh -i "$AG_KEYS/client" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "ubuntu@10.77.0.$1" \
    "export RAY_AUTH_MODE=disabled PATH=$AG_VENV/bin:\$PATH; $project/deploy/batch_node.sh $2 2 10.77.0.1 $3"
}
on 2 1 unused >/dev/null 2>&1 &
second=$!
on 1 0 "python -c 'import ray; ray.init(log_to_driver=False); print(\"NODES\", len(ray.nodes())); raise SystemExit(7)'" 2>&1
echo "first $?"
wait "$second"
echo "second $?"
