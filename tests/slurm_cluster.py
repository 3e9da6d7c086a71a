"""A real SLURM cluster on this machine: one controller, two nodes, two fake GPUs each.

`python -m tests.slurm_cluster` starts one to play with, prints the setting that SLURM's commands
need, and takes it down again at Ctrl-C. Needs root and Debian's slurm-wlm and munge.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from corpus.prepare.workers import die_with_parent

NODES = ("node1", "node2")
GPUS = 2  # of a node
# They only have to be character devices: nobody opens them.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
NEEDED = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo")
STARTS_WITHIN_S = 30

CONF = """\
ClusterName=phalanx
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired.
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
JobRequeue=1
# Short, so that a dead node is found out within a test.
SlurmdTimeout=15
InactiveLimit=0
MinJobAge=3600
KillWait=30
Waittime=0
MessageTimeout=30
{nodes}
PartitionName=main Nodes=ALL Default={default} MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


@dataclass(frozen=True)
class Declared:
    """Nodes that only the controller knows, as a partition of their own."""

    name: str
    nodes: int
    gpus: int
    kind: str | None = None  # of the GPUs

    def conf(self) -> str:
        shape = "CPUs=128 Boards=1 SocketsPerBoard=2 CoresPerSocket=64 ThreadsPerCore=1"
        kind = f"{self.kind}:" if self.kind else ""
        gres = f"Gres=gpu:{kind}{self.gpus} " if self.gpus else ""
        return f"NodeName={self.names} {shape} RealMemory=1000000 {gres}State=CLOUD\n"

    def gres(self) -> str:
        kind = f"Type={self.kind} " if self.kind else ""
        return f"NodeName={self.names} Name=gpu {kind}Count={self.gpus}\n" if self.gpus else ""

    @property
    def names(self) -> str:
        return f"{self.name}[1-{self.nodes}]"


class NoSlurm(Exception):
    """What is missing here."""


def require_slurm() -> None:
    """Raises NoSlurm where a cluster cannot be started."""
    missing = [name for name in NEEDED if _which(name) is None]
    if missing:
        raise NoSlurm(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        raise NoSlurm("a SLURM cluster on one machine has to be started by root")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class SlurmCluster:
    """A running cluster; `environment` is what SLURM's commands find it by."""

    root: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf")}

    def start(self) -> None:
        ports = _free_ports(1 + len(NODES))
        self._write(ports)
        self._start_controller()
        for node in NODES:
            self.start_node(node)
        _wait_for(self.all_idle, f"idle nodes; see {self.root}/*.log")

    def declare(self, *parts: Declared, default: str) -> None:
        """A controller alone, whose nodes are a cloud's that has not been asked for them yet."""
        (self.root / "state").mkdir()
        gres = "".join(part.gres() for part in parts)
        (self.root / "gres.conf").write_text(gres, encoding="utf-8")
        declared = "".join(part.conf() for part in parts)
        declared += "SuspendProgram=/bin/true\nResumeProgram=/bin/true\nSuspendTime=30\n"
        declared += "PrivateData=cloud\n"  # shows those that are not up, as clouds' own SLURMs do
        declared += "".join(f"PartitionName={part.name} Nodes={part.names}\n" for part in parts)
        self._write_conf(_free_ports(1)[0], declared, default)
        self._start_controller()
        _wait_for(self._answers, f"the controller; see {self.root}/*.log")

    def _answers(self) -> bool:
        try:
            return "UP" in self.run("scontrol", "ping")
        except RuntimeError:
            return False

    def _start_controller(self) -> None:
        self._start_munge()
        self._start("slurmctld", "-D")

    def start_node(self, node: str) -> None:
        self._start("slurmd", "-D", "-N", node, name=node)

    def kill_node(self, node: str) -> None:
        """As a machine that loses power: its daemon and all its processes are gone."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        self._kill_processes(node)

    def _kill_processes(self, node: str) -> None:
        for process in _processes_of(self.environment["SLURM_CONF"], node):
            with _gone_is_fine():
                process.kill()

    def run(self, *command: str, timeout: float = 60) -> str:
        """A command of SLURM's; what it printed."""
        done = subprocess.run(
            command,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def job(self, number: int) -> dict[str, str]:
        """What `scontrol show job` knows."""
        words = self.run("scontrol", "show", "job", str(number), "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def all_idle(self) -> bool:
        try:
            states = self.run("sinfo", "--noheader", "--Node", "--format=%T").split()
        except RuntimeError:  # the controller is not up yet
            return False
        return bool(states) and set(states) == {"idle"}

    def stop(self) -> None:
        for node in NODES:
            self._kill_processes(node)
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def _write(self, ports: list[int]) -> None:
        controller, *of_nodes = ports
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.root / name).mkdir()
        gres, devices = [], iter(DEVICES)
        for node in NODES:
            gres += [f"NodeName={node} Name=gpu File={next(devices)}" for _ in range(GPUS)]
        (self.root / "gres.conf").write_text("\n".join(gres) + "\n", encoding="utf-8")
        # As many processors as ranks, whatever this machine has: each rank takes one thread.
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={GPUS} Boards=1 SocketsPerBoard=1 CoresPerSocket={GPUS} ThreadsPerCore=1 "
            f"RealMemory=1000 Gres=gpu:{GPUS} State=UNKNOWN"
            for node, port in zip(NODES, of_nodes, strict=True)
        )
        self._write_conf(controller, f"{nodes}\nSlurmdParameters=config_overrides")

    def _write_conf(self, port: int, nodes: str, default: str = "YES") -> None:
        host = socket.gethostname()
        text = CONF.format(root=self.root, host=host, port=port, nodes=nodes, default=default)
        (self.root / "slurm.conf").write_text(text, encoding="utf-8")

    def _start_munge(self) -> None:
        key = self.root / "munge.key"
        subprocess.run([_which("mungekey") or "", "--create", f"--keyfile={key}"], check=True)
        socket_path = self.root / "munge.socket"
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={socket_path}",
            f"--pid-file={self.root}/munged.pid",
            f"--seed-file={self.root}/munged.seed",
            f"--log-file={self.root}/munged.log",
        )
        _wait_for(socket_path.exists, "munged's socket")

    def _start(self, program: str, *arguments: str, name: str | None = None) -> None:
        path = _which(program)
        assert path is not None
        with (self.root / f"{name or program}.out").open("ab") as out:
            self.daemons[name or program] = subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                preexec_fn=die_with_parent,  # a test session that is killed leaves nothing
            )


def _processes_of(conf: str, node: str) -> set[psutil.Process]:
    """All that a node runs: tasks, and the step daemons above them, which outlive slurmd."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with _gone_is_fine():
            said = process.environ()
            if said.get("SLURM_CONF") == conf and said.get("SLURMD_NODENAME") == node:
                found.add(process)
                found |= {each for each in process.parents() if each.name() == "slurmstepd"}
    return found


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    with suppress(ProcessLookupError, psutil.Error):
        yield


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait_for(holds: object, what: str) -> None:
    assert callable(holds)
    until = time.monotonic() + STARTS_WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"waited {STARTS_WITHIN_S} s for {what}")
        time.sleep(0.2)


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Two nodes that run jobs. Raises NoSlurm where none can be started."""
    with _stopped_after() as cluster:
        cluster.start()
        yield cluster


@contextmanager
def declared_cluster(*parts: Declared, default: str = "YES") -> Iterator[SlurmCluster]:
    """Nodes that are only declared: for `sbatch --test-only` and `scontrol show`. Raises NoSlurm.

    Each part is a partition; main has all nodes, and is the default one unless that is NO.
    """
    with _stopped_after() as cluster:
        cluster.declare(*parts, default=default)
        yield cluster


@contextmanager
def _stopped_after() -> Iterator[SlurmCluster]:
    require_slurm()
    # A short path: a Unix socket's has at most 107 characters.
    cluster = SlurmCluster(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))
    try:
        yield cluster
    finally:
        cluster.stop()


def main() -> None:
    argparse.ArgumentParser(
        description="Starts a SLURM of two nodes on this machine, until Ctrl-C. Its first line is "
        "for the shell that submits. A job to try it with: phalanx train layout=dp2 "
        "launch=slurm cluster.gpus_per_node=2 (ranks of each node; there need be no GPU)"
    ).parse_args()
    try:
        with slurm_cluster() as cluster:
            print(f"export SLURM_CONF={cluster.root}/slurm.conf", flush=True)
            print(cluster.run("sinfo", "--Node", "--long"), end="", flush=True)
            print(
                "type the first line in the shell that submits; Ctrl-C takes this down", flush=True
            )
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pause()
    except NoSlurm as error:
        sys.exit(f"slurm_cluster: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
