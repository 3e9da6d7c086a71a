"""Ensures that a run directory has one owner at a time, across all nodes that share it.

RUN/owner/00000007.json is the lease of the seventh owner, which renews it by updating the file's
time. A process that finds the lease released, expired or held by a dead process creates the eighth.
Exclusive creation lets only one succeed, so the newest number is the owner even if an older owner
was suspended. Ages use the file system's clock, as nodes' clocks may differ. Imports no torch.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from configs.errors import InputError, RunError
from configs.override import override
from slurm import commands
from slurm.environment import node_name

FOLDER = "owner"
VARIABLE = "PHALANX_OWNER"  # number of the lease, passed to the owner's ranks
RENEWALS = 6  # per lease duration
HANDOVER_S = 1800  # how long a job's lease lasts between its script and its ranks
_KEPT = 16  # old leases: a stale directory listing must not free their numbers
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder of a run directory.

    Attributes:
        machine: the boot and process namespace in which `pid` is valid.
        pid: None while a job holds it before any of the job's processes does.
        started: the process's start time, as process ids are reused.
        job: SLURM's job id; `restart` is its requeue count.
        lease_s: the lease expires this long after its last renewal.
    """

    host: str
    machine: str
    pid: int | None
    started: float
    job: str
    restart: int
    user: str
    since: float
    lease_s: float
    released: bool = False

    @classmethod
    def of_this_process(
        cls, lease_s: float, environment: Mapping[str, str], *, process: bool
    ) -> Holder:
        """This process, or the SLURM job that it belongs to."""
        return cls(
            host=node_name(os.environ),
            machine=_machine(),
            pid=os.getpid() if process else None,
            started=psutil.Process().create_time() if process else 0.0,
            job=environment.get("SLURM_JOB_ID", ""),
            restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
            user=_user(),
            since=time.time(),
            lease_s=lease_s if process else max(lease_s, HANDOVER_S),
        )

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid is not None else ""
        job = f"job {self.job}" if self.job else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        of = " of ".join(filter(None, [who, job])) or "somebody"
        return f"{of} on {self.host} ({self.user}) since {since}"

    def is_same_job(self, other: Holder) -> bool:
        """Whether both belong to one SLURM job; False outside jobs."""
        return bool(self.job) and self.job == other.job

    def is_dead(self) -> bool:
        """Whether the process is known to be dead; only known for processes of this machine."""
        if self.pid is None or self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a run directory."""

    folder: Path  # RUN/owner
    number: int
    holder: Holder

    @classmethod
    def newest(cls, run_dir: Path) -> Lease | None:
        """The lease of the current or last owner."""
        folder = run_dir / FOLDER
        number = max(_numbers(folder), default=0)
        return cls(folder, number, _read(_path(folder, number))) if number else None

    def age_s(self) -> float:
        """Seconds since the last renewal, by the file system's clock."""
        probe = self.folder / f".probe-{uuid.uuid4().hex}"
        try:
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink()
        except OSError:  # a read-only directory
            now = time.time()
        with _path(self.folder, self.number).open("rb") as file:  # opening refreshes the attributes
            return now - os.fstat(file.fileno()).st_mtime

    def is_free(self) -> bool:
        """Whether it was released or has expired, or its process or job has ended."""
        holder = self.holder
        if holder.released or holder.is_dead() or self.age_s() > holder.lease_s:
            return True
        # For a process on a node that SLURM has lost, only the lease's age is conclusive.
        return holder.pid is None and bool(holder.job) and commands.has_ended(int(holder.job))

    def renew(self) -> None:
        """Sets the lease's file time to now."""
        os.utime(_path(self.folder, self.number))

    def write(self, holder: Holder) -> Lease:
        """Replaces the holder in the lease's file atomically; returns the new lease."""
        new = self.folder / f".{uuid.uuid4().hex}"
        new.write_text(json.dumps(asdict(holder)), encoding="utf-8")
        os.replace(new, _path(self.folder, self.number))
        return replace(self, holder=holder)

    def is_lost(self) -> bool:
        """Whether another process has taken the directory over. Reads the disk once."""
        return _path(self.folder, self.number + 1).exists()

    def require(self) -> None:
        """Raises RunError if the lease is lost."""
        if not self.is_lost():
            return
        newest = Lease.newest(self.folder.parent)
        holder = newest.holder if newest is not None else "another"
        raise RunError(
            f"run_dir={self.folder.parent}: was taken over by {holder}, as this run did not renew "
            "its lease; it ends without another write"
        )


@contextmanager
def owning(
    run_dir: Path,
    lease_s: float,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Lease]:
    """Holds the directory for this process inside the block, and renews its lease.

    Raises InputError, naming the owner, if the directory has another.
    """
    existed = run_dir.exists()
    me = Holder.of_this_process(lease_s, environment, process=True)
    lease, adopted = _take(run_dir, me), False
    if lease.holder.pid is None:  # held by the job that this process belongs to
        lease, adopted = lease.write(me), True
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, ended, lease_s / RENEWALS), daemon=True)
    thread.start()
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(lease.number)
    try:
        yield lease
    finally:
        ended.set()
        thread.join(1.0)  # takes longer only if the disk hangs
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
        with suppress(OSError):
            if not adopted:  # otherwise the job's script still needs it
                lease.write(replace(me, released=True))
            if not existed:
                _leave_nothing(lease)


def take_for_job(run_dir: Path, lease_s: float, environment: Mapping[str, str]) -> Lease:
    """Takes the directory for the job of this script, until `release_of_job`.

    Waits for the lease of an earlier job that lost its node. Raises InputError.
    """
    me = Holder.of_this_process(lease_s, environment, process=False)
    while True:
        try:
            return _take(run_dir, me)
        except InputError:
            newest = Lease.newest(run_dir)
            if newest is None or newest.is_free():
                continue
            # One renewal proves that the owner is alive.
            if newest.holder.is_same_job(me) or not _falls_silent(newest):
                raise


def release_of_job(run_dir: Path, environment: Mapping[str, str]) -> None:
    """Releases the newest lease if this SLURM job holds it."""
    newest = Lease.newest(run_dir)
    job = environment.get("SLURM_JOB_ID", "")
    if newest is not None and job and newest.holder.job == job:
        with suppress(OSError):
            newest.write(replace(newest.holder, released=True))


def lease_of_owner(run_dir: Path) -> Lease | None:
    """The lease of the process that started this rank; None if it passed none on."""
    number = os.environ.get(VARIABLE)
    if number is None:
        return None
    folder = run_dir / FOLDER
    return Lease(folder, int(number), _read(_path(folder, int(number))))


def owner_of(run_dir: Path) -> str | None:
    """A description of the current owner; None if there is none."""
    newest = Lease.newest(run_dir)
    return None if newest is None or newest.is_free() else str(newest.holder)


def _take(run_dir: Path, me: Holder) -> Lease:
    """Raises InputError if the directory is owned."""
    folder = run_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            newest = Lease.newest(run_dir)
            if newest is not None and not _may_follow(newest, me):
                if newest.holder.pid is None and _same_start(newest.holder, me):
                    return newest
                raise _refusal(run_dir, newest)
            number = 1 if newest is None else newest.number + 1
            if (lease := _make(folder, number, me)) is not None:
                _clear_old(folder, number)
                return lease
    except OSError as error:
        raise InputError(f"{override('run_dir', run_dir)}: {error.strerror}") from None


def _same_start(holder: Holder, me: Holder) -> bool:
    return holder.is_same_job(me) and holder.restart == me.restart


def _may_follow(newest: Lease, me: Holder) -> bool:
    holder = newest.holder
    # SLURM ends a job's earlier start before it begins another.
    return (holder.is_same_job(me) and holder.restart < me.restart) or newest.is_free()


def _refusal(run_dir: Path, newest: Lease) -> InputError:
    free = newest.holder.lease_s - newest.age_s()
    return InputError(
        f"{override('run_dir', run_dir)}: {newest.holder} has it, and two runs in one directory "
        f"would destroy each other; nearest: another run_dir, or wait for it to end (if it is "
        f"dead, the directory is free in {max(free, 0):.0f} s)"
    )


def _make(folder: Path, number: int, holder: Holder) -> Lease | None:
    """Creates a lease; None if another process was first."""
    path = _path(folder, number)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(holder), file)
    return Lease(folder, number, holder)


def _falls_silent(lease: Lease) -> bool:
    """Whether the lease goes without renewal until it is free. Returns early if it is renewed."""
    age = lease.age_s()
    while not lease.is_free():
        time.sleep(_LOOK_S)
        now = lease.age_s()
        newest = Lease.newest(lease.folder.parent)
        if newest is None or newest.number != lease.number or newest.holder.released:
            return True  # it is checked again
        if now < age:
            return False
        age = now
    return True


def _renew(lease: Lease, ended: threading.Event, every_s: float) -> None:
    while not ended.wait(every_s):
        with suppress(OSError):  # the disk may be unavailable for a moment
            lease.renew()


def _clear_old(folder: Path, number: int) -> None:
    for old in _numbers(folder):
        if old < number - _KEPT:
            with suppress(OSError):
                _path(folder, old).unlink()


def _leave_nothing(lease: Lease) -> None:
    """Cleans up after a run that was refused before it wrote anything."""
    run_dir = lease.folder.parent
    if [path.name for path in run_dir.iterdir()] == [FOLDER]:
        _path(lease.folder, lease.number).unlink()
        lease.folder.rmdir()
        run_dir.rmdir()


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()]
    except FileNotFoundError:
        return []


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08}.json"


def _read(path: Path) -> Holder:
    """An unreadable lease was created a moment ago, or its creator was killed while writing it."""
    unknown = Holder(
        host="?", machine="", pid=None, started=0.0, job="", restart=0, user="?", since=time.time(),
        lease_s=60.0,
    )  # fmt: skip
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**said)
    except (OSError, ValueError, TypeError):
        return unknown


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
