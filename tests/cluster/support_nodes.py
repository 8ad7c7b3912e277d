"""Machines of one test: namespaces with processes, a network, a host name and a disk of their own. Root only.

A network 10.77.0.0/24 joins them; the test itself, with the bucket, is 10.77.0.254. Ray's default ports do not clash
there, and a machine that is killed is gone as a spot machine is: its processes in one moment, and its disk. A machine
can write to its own disk and to the shared folder; all else is read-only there, so that no result hides in a place that
only seems private. Everything ends with the process that made it, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from support.processes import REPOSITORY

OUTSIDE = "10.77.0.254"
T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # os.setns comes with Python 3.12
_SWITCH = f"""
ip link set lo up && ip link add bridge type bridge && ip addr add {OUTSIDE}/24 dev bridge && ip link set bridge up
exec sleep infinity
"""
# The first process of a machine: bash, because it reaps what others leave.
_MACHINE = f"""
set -e
address=$1 name=$2 disk=$3 shared=$4
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up
ip route add default via {OUTSIDE}  # Ray asks the kernel for its address with a route to the world
hostname "$name"
mkdir -p "$disk" /tmp/ray /tmp/_ray_lockfiles
mount -t tmpfs tmpfs "$disk"
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /tmp/_ray_lockfiles  # of Ray Train, wherever TMPDIR is
mount -t tmpfs tmpfs /dev/shm
mkdir "$disk/home" "$disk/tmp"
echo "127.0.0.1 localhost
$address $name" > "$disk/hosts"
mount --bind "$disk/hosts" /etc/hosts
echo "nameserver 127.0.0.1" > "$disk/resolv.conf"  # nobody answers there: a name is unknown at once, not after 5 s
mount --bind "$disk/resolv.conf" "$(realpath /etc/resolv.conf)"
mount --bind "$shared" "$shared"
mount -o remount,bind,ro /
touch "$disk/ready"
sleep infinity & wait
"""


def missing_for_nodes() -> str | None:
    """Why this machine cannot make machines of its own."""
    if os.geteuid() != 0:
        return "namespaces need root"
    try:
        probe = (
            "ip link add name ag0 type bridge && ip link add name ag1 type veth peer name ag2 && mount -t tmpfs a /mnt"
        )
        done = subprocess.run(
            ["unshare", "-pmnuf", "--mount-proc", "bash", "-c", probe], capture_output=True, text=True
        )
    except FileNotFoundError:
        return "not here: unshare (apt-get install util-linux iproute2)"
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.strip()}"


class Machine:
    """Namespaces that last until `kill`."""

    def __init__(self, number: int, disk: Path, shared: Path, environment: Mapping[str, str]) -> None:
        self.address, self.name, self.disk = f"10.77.0.{number}", f"node{number}", disk
        self.environment, self.alive = dict(environment), True
        unshare = ["unshare", "-pmnu", "--fork", "--mount-proc", "--kill-child", "--propagation", "private"]
        script = ["bash", "-c", _MACHINE, "machine", self.address, self.name, str(disk), str(shared)]
        self._outer = _bound_to_us([*unshare, *script])
        self.pid = wait_for(lambda: next((each.pid for each in psutil.Process(self._outer.pid).children()), 0))

    def command(self, *arguments: object) -> list[str]:
        """`arguments` as a command that runs on the machine, in the repository's folder."""
        enter = ["nsenter", "-t", str(self.pid), "-p", "-m", "-n", "-u", f"--wd={REPOSITORY}", "--"]
        return [*enter, "env", *(f"{key}={value}" for key, value in self.environment.items()), *map(str, arguments)]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command; its stderr goes where its stdout goes."""
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout_s: float) -> str:
        """Wait for a command's end and return what it printed. If it takes longer, test and machine end."""
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            self.kill()  # nsenter alone would leave the command behind, and its pipe open
            pytest.fail(f"not done within {timeout_s} s:\n{process.communicate()[0][-4000:]}")

    def run(self, *arguments: object, timeout_s: float = 120, check: bool = True) -> str:
        """Run a command and return what it printed."""
        process = self.start(*arguments)
        output = self.finish(process, timeout_s)
        assert process.returncode == 0 or not check, f"{arguments} ended with {process.returncode}:\n{output[-6000:]}"
        return output

    def path(self, path: Path) -> Path:
        """A path of the machine, as the test sees it."""
        return Path(f"/proc/{self.pid}/root", *path.parts[1:])

    def has(self, path: Path) -> bool:
        """Whether the machine sees a file."""
        return self.path(path).exists()

    def sent_bytes(self) -> int:
        """What the machine has sent to others since it began."""
        lines = Path(f"/proc/{self.pid}/net/dev").read_text().splitlines()
        return int(next(line for line in lines if "eth0:" in line).partition(":")[2].split()[8])

    def kill(self) -> None:
        """Power off: SIGKILL for all its processes at once; its disk is gone."""
        self._outer.kill()
        self._outer.wait()
        self.alive = False
        wait_for(lambda: not Path(f"/proc/{self.pid}/root/proc").exists(), what="the machine's end")


class Network:
    """The machines of a test, by their numbers."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.shared = folder / "disk", folder / "shared"
        self.shared.mkdir()
        self.machines: dict[int, Machine] = {}
        self._switch = _bound_to_us(["unshare", "-n", "bash", "-c", _SWITCH])
        bridge = ["ip", "-o", "link", "show", "bridge", "up"]
        outside = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{self._switch.pid}/ns/net").readlink() != outside)
        wait_for(lambda: subprocess.run(self.command(*bridge), capture_output=True, text=True).stdout)

    def machine(self, number: int, environment: Mapping[str, str]) -> Machine:
        """A new machine with an empty disk, also in the place of one that was killed."""
        made = Machine(number, self.disk, self.shared, environment)
        self.machines[number] = made
        link = f"machine{number}"
        # the kernel takes a killed machine's link away some time after its last process has gone
        subprocess.run(self.command("ip", "link", "del", link), stderr=subprocess.DEVNULL)
        self.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", made.pid)
        self.run("ip", "link", "set", link, "master", "bridge", "up")
        wait_for(lambda: made.has(made.disk / "ready"))
        return made

    def command(self, *arguments: object) -> list[str]:
        """`arguments` as a command at 10.77.0.254."""
        return ["nsenter", f"--net=/proc/{self._switch.pid}/ns/net", "--", *map(str, arguments)]

    def run(self, *arguments: object) -> None:
        """Run a command at 10.77.0.254."""
        subprocess.run(self.command(*arguments), check=True)

    def enter(self) -> None:
        """Move the calling thread to 10.77.0.254: the machines reach what listens on sockets that it opens."""
        with Path(f"/proc/{self._switch.pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def end(self) -> None:
        """Kill every machine."""
        for machine in self.machines.values():
            machine.kill()
        self._switch.kill()
        self._switch.wait()


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network whose machines do not outlive the block. In `folder`: `disk`, each machine's own, and `shared`."""
    made = Network(folder)
    try:
        yield made
    finally:
        made.end()


def wait_for(condition: Callable[[], T], timeout_s: float = 30, what: str = "the condition") -> T:
    """What `condition` returns, as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.05)
    return found


def _bound_to_us(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a command that the kernel kills when this process ends, however it ends."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
