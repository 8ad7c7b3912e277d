#!/usr/bin/env bash
# support_machines.sh NUMBER COMMAND...    run COMMAND on a network of its own with NUMBER machines, reached over SSH
#
# Each machine is a set of namespaces: processes, network (10.77.0.1, 10.77.0.2, ...; the caller is 10.77.0.254), and a
# private disk at /home, /tmp/ray and /var/tmp. So default ports do not clash, `ray stop` ends one machine's Ray, and
# nothing outside is seen or touched. All of it ends with this script. Root only.
#   AG_KEYS    folder with client.pub; its host key is made here
#   AG_VENV    the environment that stands as installed in each machine's ~/affectgrid/.venv
set -euo pipefail
number=$1; shift

machine() {  # runs in the machine's namespaces; $1: its address
  until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
  ip link set lo up
  ip addr add "$1/24" dev eth0
  ip link set eth0 up
  ip route add default via 10.77.0.254  # Ray asks the kernel for its address with a route to the world
  mount -t tmpfs tmpfs /home
  mkdir -p /tmp/ray /run/sshd
  mount -t tmpfs tmpfs /tmp/ray
  mount -t tmpfs tmpfs /var/tmp
  # One user as in cluster.yaml: root under another name, with a home on the private disk. First, so that user 0 is it.
  { echo "ubuntu:x:0:0::/home/ubuntu:/bin/bash"; cat /etc/passwd; } > /home/passwd
  mount --bind /home/passwd /etc/passwd
  mkdir -p /home/ubuntu/.ssh /home/ubuntu/affectgrid/.venv
  cp "$AG_KEYS/client.pub" /home/ubuntu/.ssh/authorized_keys
  ln -s "$AG_VENV"/* /home/ubuntu/affectgrid/.venv/
  touch /home/ubuntu/affectgrid/.venv/.ready-runtime  # newer than pyproject.toml: make installs nothing
  # No PAM: this machine has no logind.
  exec /usr/sbin/sshd -D -e -f /dev/null -h "$AG_KEYS/host" -o "ListenAddress=$1" -o UsePAM=no -o PidFile=none \
    -o PermitRootLogin=yes -o StrictModes=no -o MaxStartups=100 2> "$AG_KEYS/sshd-$1.log"
}

network() {
  ip link set lo up
  ip link add bridge type bridge
  ip addr add 10.77.0.254/24 dev bridge
  ip link set bridge up
  mkdir -p /tmp/ray
  mount -t tmpfs tmpfs /tmp/ray  # the caller's own notes on its clusters
  ssh-keygen -q -t ed25519 -N '' -f "$AG_KEYS/host"
  local outside; outside=$(readlink /proc/self/ns/net)
  for i in $(seq "$number"); do
    unshare -pmn --fork --mount-proc --kill-child --propagation private \
      bash "$0" --machine "10.77.0.$i" &
    until [ "$(readlink "/proc/$!/ns/net")" != "$outside" ]; do sleep 0.05; done
    ip link add "machine$i" type veth peer name eth0 netns $!
    ip link set "machine$i" master bridge up
  done
  for i in $(seq "$number"); do
    timeout 20 bash -c "until (exec 3<>/dev/tcp/10.77.0.$i/22) 2>/dev/null; do sleep 0.1; done"
  done
  "$@"
}

case $number in
  --machine) machine "$1" ;;
  --network) number=$1; shift; network "$@" ;;
  *) exec unshare -pmn --fork --mount-proc --kill-child --propagation private bash "$0" --network "$number" "$@" ;;
esac
