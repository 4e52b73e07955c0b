"""Processes and ports of this machine, read from /proc: who listens, is it ours, start it, stop it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 20.0
"""A broker that closes its log files cleanly takes a few; after this it is killed."""

_LISTEN = "0A"
_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Running:
    """One process, told from a later one with the same pid by its start."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat, clock ticks since boot."""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none or it is a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] == "Z" else int(fields[19])


def is_alive(running: Running) -> bool:
    """Whether exactly this process still runs."""
    return start_ticks(running.pid) == running.start_ticks


def resident_mib(pid: int) -> int:
    """Memory a process holds, MiB; 0 when it is gone."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def available_mib() -> int:
    """Memory that can be taken without swapping, MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def listening_inodes(port: int) -> set[str]:
    """Socket inodes that listen on a TCP port, whatever the address."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens on the port: an answering port alone may be somebody else's."""
    inodes = listening_inodes(port)
    return bool(inodes) and bool(inodes & _socket_inodes(pid))


def port_owner(port: int) -> str | None:
    """Who listens on a port, for a message: ``process 12 (java)``; None when the port can be taken."""
    inodes = listening_inodes(port)
    if not inodes:
        return None if _can_bind(port) else "a process"
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and inodes & _socket_inodes(int(folder.name)):
            return f"process {folder.name} ({_name(folder)})"
    return "a process of another user"


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return "gone"


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the JVM does: TIME_WAIT is no hindrance
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _socket_inodes(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        descriptors = os.listdir(_PROC / str(pid) / "fd")
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = os.readlink(_PROC / str(pid) / "fd" / descriptor)
        except OSError:
            continue  # closed between the two calls
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


started: "list[subprocess.Popen[bytes]]" = []
"""Ours that were not waited for yet. Python warns of a process that it loses sight of; to outlive us is their job."""


def start(
    command: list[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> "tuple[Running, subprocess.Popen[bytes]]":
    """Start a process that outlives this one; what it writes goes to the end of the log. Raises OSError."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started.append(process)
    return Running(pid=process.pid, start_ticks=start_ticks(process.pid) or 0), process


def stop(processes: Iterable[Running]) -> None:
    """SIGTERM to each, SIGKILL to those that are there after STOP_SECONDS; returns when all are gone."""
    alive = [running for running in processes if is_alive(running)]
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        for running in alive:
            _signal(running, number)
        deadline = time.monotonic() + seconds
        while alive and time.monotonic() < deadline:
            time.sleep(0.05)
            alive = [running for running in alive if is_alive(running)]
    started[:] = [process for process in started if process.poll() is None]


def _signal(running: Running, number: signal.Signals) -> None:
    if not is_alive(running):
        return
    try:
        os.kill(running.pid, number)
    except ProcessLookupError:
        return  # ended meanwhile, which is what is wanted


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for a message."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
