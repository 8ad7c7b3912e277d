"""What the cluster tests share: which keys the variants have in common, and whether machines can be made here."""

from __future__ import annotations

import os
import shutil
import subprocess

SHARED_KEYS = (
    "file_mounts",
    "file_mounts_sync_continuously",
    "rsync_exclude",
    "setup_commands",
    "head_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def missing_for_machines() -> str | None:
    """Why this machine cannot make machines of its own."""
    if os.geteuid() != 0:
        return "namespaces and sshd need root"
    missing = [name for name in ("/usr/sbin/sshd", "rsync", "ip", "unshare", "ssh-keygen") if not shutil.which(name)]
    if missing:
        return f"not here: {', '.join(missing)} (apt-get install openssh-server rsync iproute2)"
    probe = (
        "ip link add name ag0 type bridge && ip link add name ag1 type veth peer name ag2 && mount -t tmpfs tmpfs /mnt"
    )
    done = subprocess.run(["unshare", "-mn", "--propagation", "private", "bash", "-c", probe], capture_output=True)
    return None if done.returncode == 0 else f"the kernel refuses namespaces: {done.stderr.decode().strip()}"
