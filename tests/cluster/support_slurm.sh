#!/usr/bin/env bash
# support_slurm.sh FOLDER PROJECT COMMAND...    run COMMAND in PROJECT beside a Slurm of one node of its own
# Munge, slurmctld and slurmd with a configuration, ports and state in FOLDER, in a process and a mount namespace that end
# with the command. On the host's network: Slurm resolves no address on a network that has no way out. Root only.
set -euo pipefail
if [ "$1" != --inside ]; then
  exec unshare -pm --fork --mount-proc --kill-child --propagation private bash "$0" --inside "$@"
fi
folder=$2 project=$3
shift 3
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
mount -t tmpfs tmpfs /etc/munge  # a key of its own; the host's, if there is one, stays
head -c 1024 /dev/urandom > /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
chown -R munge /etc/munge "$folder/munge"
cat > "$folder/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmctldPort=26817
SlurmdPort=26818
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP OverSubscribe=EXCLUSIVE
C
export SLURM_CONF=$folder/slurm.conf
setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged -F -f -S "$folder/munge/socket" \
  --log-file="$folder/munge/log" --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" 2>/dev/null &
until [ -S "$folder/munge/socket" ]; do sleep 0.1; done
slurmctld -D 2>/dev/null &
slurmd -D 2>/dev/null &
timeout 30 bash -c 'until sinfo -h -o %T 2>/dev/null | grep -q idle; do sleep 0.2; done'
cd "$project"
"$@"
