#!/usr/bin/env bash
# Install the project on this node (Ubuntu 24.04 or Debian 12), before Ray starts: an idle worker process that began
# earlier would miss it. Safe to run again; it takes a second when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ~/.affectgrid.env
case "${AFFECTGRID_OUT:-}" in
  ""|*CHANGE-ME*) echo "set AFFECTGRID_OUT at the top of cluster.yaml to your bucket" >&2; exit 1 ;;
esac
chmod 600 ~/.ray/auth_token
if ! { command -v make && python3 -c 'import ensurepip, venv'; } >/dev/null 2>&1; then
  # a fresh machine may still hold the lock of its own first update
  sudo apt-get -o DPkg::Lock::Timeout=300 update -q
  sudo apt-get -o DPkg::Lock::Timeout=300 install -y -q make python3-venv
fi
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  make install-runtime
else
  make install-runtime TORCH_INDEX=https://download.pytorch.org/whl/cpu  # without CUDA: some 2.5 GB instead of 6.8
fi
# Shells of `ray attach` and `ray exec`, and `ray stop` of `ray down`, find the same programs and settings.
# shellcheck disable=SC2016
line='set -a; . ~/.affectgrid.env; set +a; export PATH="$HOME/affectgrid/.venv/bin:$PATH"'
touch ~/.bashrc
if ! grep -qxF "$line" ~/.bashrc; then  # at the top: Ubuntu's own file ends early in a shell that is not interactive
  printf '%s\n' "$line" "$(cat ~/.bashrc)" > ~/.bashrc.new && mv ~/.bashrc.new ~/.bashrc
fi
