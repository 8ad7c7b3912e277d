#!/usr/bin/env bash
# A Ray head on this host, started from the repository's folder so that the literal `ray job submit -- python jobs/tune.py`
# finds jobs/ and this environment. Only the processes of this head are ended by `stop`, not every Ray on the host.
#   make cluster              asks for no token, so that the literal command works in any shell: for a machine of your own
#   AUTH=token make cluster   asks every client for a token; each shell that submits says: export RAY_AUTH_MODE=token
set -euo pipefail
cd "$(dirname "$0")/.."
TMP=${AFFECTGRID_RAY_TMP:-/tmp/ag-cluster-$(id -u)}
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=${AUTH:-disabled} RAY_USAGE_STATS_ENABLED=0

raylet_and_gcs() {  # process ids of this head: its folder is on their command lines
  python -c 'import os, psutil, sys
mine = (p for p in psutil.process_iter(["cmdline", "uids"]) if p.info["uids"] and p.info["uids"].real == os.getuid())
print(*(p.pid for p in mine if p.pid != os.getpid() and sys.argv[1] in " ".join(p.info["cmdline"] or [])))' "$TMP/"
}

case ${1:-} in
start)
  [ -x .venv/bin/ray ] || make install
  mkdir -p -m 700 "$TMP"
  if [ "$RAY_AUTH_MODE" = token ] && [ ! -s ~/.ray/auth_token ]; then
    (umask 077; ray get-auth-token --generate >/dev/null); chmod 600 ~/.ray/auth_token
  fi
  ray start --head --node-ip-address=127.0.0.1 --port="${RAY_PORT:-6379}" --dashboard-host=127.0.0.1 \
    --dashboard-port="${RAY_DASHBOARD_PORT:-8265}" --dashboard-agent-listen-port="${RAY_AGENT_PORT:-52365}" --temp-dir="$TMP" --disable-usage-stats >"$TMP/start.log" 2>&1 \
    || { cat "$TMP/start.log"; exit 1; }
  if [ "$RAY_AUTH_MODE" = token ]; then
    echo "first:      export RAY_AUTH_MODE=token"
  else
    echo "note:       no token is asked for, and Ray's own ports listen on every interface of this host:"
    echo "            whoever reaches them can run code here. On a shared network: AUTH=token make cluster"
  fi
  echo "submit:     ray job submit -- python jobs/tune.py     (source .venv/bin/activate puts ray on the PATH)"
  echo "dashboard:  http://127.0.0.1:${RAY_DASHBOARD_PORT:-8265}"
  echo "stop:       make cluster-stop"
  ;;
stop)
  [ -d "$TMP" ] || { echo "no cluster of make cluster is running"; exit 0; }
  pids=$(raylet_and_gcs)
  [ -z "$pids" ] || kill $pids 2>/dev/null || true
  for _ in $(seq 100); do [ -z "$(raylet_and_gcs)" ] && break; sleep 0.1; done
  pids=$(raylet_and_gcs)
  [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
  rm -rf "$TMP"
  ;;
*) echo "usage: $0 start|stop" >&2; exit 2 ;;
esac
