#!/usr/bin/env bash
# MLflow on the head: PostgreSQL from the distribution, a unit that restarts the server, a daily back-up to the bucket.
# Run it as the user that owns ~/affectgrid, after setup_node.sh. Safe to run again; a running server is not restarted.
set -euo pipefail
cd "$(dirname "$0")"
user=$(id -un)
if ! command -v pg_dump >/dev/null; then
  sudo apt-get -o DPkg::Lock::Timeout=300 update -q
  sudo apt-get -o DPkg::Lock::Timeout=300 install -y -q postgresql
fi
# The role is called as the system user: PostgreSQL's local socket then needs no password ("peer").
as_postgres() { (cd / && sudo -u postgres "$@"); }
as_postgres psql -qtAc "select 1 from pg_roles where rolname = '$user'" | grep -q 1 || as_postgres createuser "$user"
as_postgres psql -qtAc "select 1 from pg_database where datname = 'mlflow'" | grep -q 1 || as_postgres createdb -O "$user" mlflow
sudo install -m 644 systemd/affectgrid-mlflow@.service systemd/affectgrid-mlflow-backup@.service \
  systemd/affectgrid-mlflow-backup@.timer /etc/systemd/system/
sudo systemctl daemon-reload
sudo systemctl enable --now "affectgrid-mlflow@$user.service" "affectgrid-mlflow-backup@$user.timer"
for _ in $(seq 60); do
  python3 -c 'import urllib.request as r; r.urlopen("http://127.0.0.1:5000/health", timeout=2)' 2>/dev/null && exit 0
  sleep 1
done
echo "MLflow does not answer on 127.0.0.1:5000: journalctl -u affectgrid-mlflow@$user" >&2
exit 1
