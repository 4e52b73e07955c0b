"""Runs clients on the simulated driver and reads who really used what: the ground truth of every test about sharing.

with Simulation(model="fifo", clock="virtual", cuda="13.0", cards=1, memory_mib=16384, start=2) as sim:
    one = sim.start([client, "words"], hook=True, region=folder, rank=0)
    two = sim.start([client, "words"], rank=1)
    sim.wait(one, two)
    print(sim.card(0).busy_ns, sim.card(0).processes[one.pid].busy_ns)
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypedDict, Unpack

import building

MAGIC = 0x45475055534D3035
CARDS_MAX = 16
PROCESSES_MAX = 1536
ENGINES_PER_CARD = 3
ENGINES_MAX = CARDS_MAX * ENGINES_PER_CARD
MUTEX_BYTES = 40
"""sizeof(pthread_mutex_t), x86-64; with the other sizes held against sim.h by test_hook_driver_time.py."""
WAIT_SECONDS_MAX = 60.0
MEMORY_FOLDER = Path("/dev/shm")
"""The state is mapped by every process: on a disk it would be written out."""
RANK_NONE = 1_000_000


class _Card(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_ubyte * 16),
        ("memory_bytes", ctypes.c_uint64),
        ("memory_used_bytes", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 29),
    )


class _Engine(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("card", "kind", "active_count", "slice_lane", "running_lane", "unused")),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "running_ticket",
                "free_at_ns",
                "slice_end_ns",
                "busy_ns",
                "blocked",
                "work_queued_ns",
                "work_done_ns",
            )
        ),
        ("active", ctypes.c_uint32 * PROCESSES_MAX),
    )


class _Share(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in (
                "busy_ns",
                "copy_ns",
                "operations",
                "bytes",
                "bytes_most",
                "context_bytes",
                "managed_bytes",
                "managed_resident_bytes",
                "migrated_in_bytes",
                "migrated_out_bytes",
                "host_bytes",
                "unknown_kernels",
            )
        ),
        ("reserved", ctypes.c_uint64 * 4),
    )


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int32),
        ("alive", ctypes.c_uint32),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "start_time",
                "attached_ns",
                "ended_ns",
                "rank",
                "calls",
                "calls_unsupported",
                "threads",
                "lost",
                "expected",
                "dead_events",
            )
        ),
        ("reserved", ctypes.c_uint64 * 5),
        ("shares", _Share * CARDS_MAX),
        ("lanes", ctypes.c_uint32 * ENGINES_MAX),
    )


class _State(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("version", "model", "clock", "cuda", "cards", "start")),
        *((name, ctypes.c_uint64) for name in ("seed", "memory_bytes", "call_ns", "launch_ns", "size")),
        ("mutex", ctypes.c_ubyte * MUTEX_BYTES),
        ("now_ns", ctypes.c_uint64),
        ("next_wake_ns", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("holder", "participants", "participants_high", "expected")),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "attachments",
                "switches",
                "stalls",
                "progress",
                "reaped_real_ns",
                "sequence",
                "trace_hash",
                "trace_count",
            )
        ),
        *((name, ctypes.c_uint32) for name in ("processes_high", "lanes_high", "changes", "managed_lock")),
        ("reserved", ctypes.c_uint64 * 32),
        ("card", _Card * CARDS_MAX),
        ("engines", _Engine * ENGINES_MAX),
        ("processes", _Process * PROCESSES_MAX),
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What a process used of one card. Bytes are 0 once it has ended, times stay."""

    pid: int
    rank: int
    alive: bool
    busy_ns: int
    copy_ns: int
    operations: int
    bytes: int
    bytes_most: int
    managed_resident_bytes: int
    migrated_in_bytes: int
    migrated_out_bytes: int
    host_bytes: int
    unknown_kernels: int


@dataclass(frozen=True, slots=True)
class Card:
    uuid: str
    memory_bytes: int
    memory_used_bytes: int
    busy_ns: int
    processes: dict[int, Share]

    def rank(self, rank: int) -> Share:
        """The newest process that had this rank. Raises LookupError."""
        found = [share for share in self.processes.values() if share.rank == rank]
        if not found:
            raise LookupError(f"no process of rank {rank}")
        return found[-1]


class Machine(TypedDict, total=False):
    """What is simulated; the defaults are those of Simulation.__init__."""

    model: str
    """fifo or timeslice."""
    clock: str
    """virtual or wall."""
    cuda: str
    cards: int
    memory_mib: int
    seed: int
    start: int
    """Nobody runs before that many threads take part."""
    env: Mapping[str, str]
    """Further EGPU_SIM_ words."""


class How(TypedDict, total=False):
    """How a client is started."""

    hook: bool
    region: Path | None
    rank: int | None
    """Order of turns at the same time; without one in order of arrival."""
    env: Mapping[str, str] | None


class Simulation:
    """One simulated machine: a state file, its processes, and what they did."""

    def __init__(self, **machine: Unpack[Machine]) -> None:
        self.driver = building.driver(machine.get("cuda", "13.0"))
        self.folder = Path(tempfile.mkdtemp(prefix="egpu-sim-", dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None))
        self.state = self.folder / "state"
        self.processes: list[subprocess.Popen[str]] = []
        self.environment = {
            "EGPU_SIM_STATE": str(self.state),
            "EGPU_SIM_MODEL": machine.get("model", "fifo"),
            "EGPU_SIM_CLOCK": machine.get("clock", "virtual"),
            "EGPU_SIM_CUDA": machine.get("cuda", "13.0"),
            "EGPU_SIM_CARDS": str(machine.get("cards", 1)),
            "EGPU_SIM_MEMORY_MIB": str(machine.get("memory_mib", 16384)),
            "EGPU_SIM_SEED": str(machine.get("seed", 1)),
            "EGPU_SIM_START": str(machine.get("start", 0)),
            **machine.get("env", {}),
        }

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, words: Sequence[str | Path], **how: Unpack[How]) -> subprocess.Popen[str]:
        """Starts a client on this machine, its output piped as text. Without `region` the hook finds none."""
        environment = {**os.environ, **self.environment, "LD_LIBRARY_PATH": str(self.driver)}
        environment["EGPU_REGION"] = str(how.get("region") or self.folder / "no_region")
        if how.get("hook"):
            environment["LD_PRELOAD"] = str(building.hook())
        rank = how.get("rank")
        if rank is not None:
            environment["EGPU_SIM_RANK"] = str(rank)
        environment.update(how.get("env") or {})
        process = subprocess.Popen(
            [str(word) for word in words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def wait(self, *processes: subprocess.Popen[str], seconds: float = WAIT_SECONDS_MAX) -> list[str]:
        """Their outputs, once all have ended with 0. Raises AssertionError with both outputs if one does not."""
        until = time.monotonic() + seconds
        outputs = []
        for process in processes:
            try:
                out, err = process.communicate(timeout=max(until - time.monotonic(), 0.001))
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{process.args!r} took over {seconds} s: {self.summary()}\n{out}{err}") from None
            assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}\n{out}{err}"
            outputs.append(out)
        return outputs

    def run(self, words: Sequence[str | Path], seconds: float = WAIT_SECONDS_MAX, **how: Unpack[How]) -> str:
        """Starts one client and waits for its output."""
        return self.wait(self.start(words, **how), seconds=seconds)[0]

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9, and waits until the machine's process table has forgotten it."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def _read(self) -> _State:
        with open(self.state, "rb") as file:
            state = _State.from_buffer_copy(file.read(ctypes.sizeof(_State)))
        assert state.magic == MAGIC, "no process has made the state yet"
        return state

    def summary(self) -> str:
        """One line for the message of a test that failed."""
        if not self.state.exists():
            return "no state"
        state = self._read()
        return (
            f"now {state.now_ns} ns, holder {state.holder}, {state.participants} threads take part, "
            f"{state.expected} expected, {state.switches} switches, {state.stalls} stalls"
        )

    @property
    def now_ns(self) -> int:
        return int(self._read().now_ns)

    @property
    def trace(self) -> tuple[int, int]:
        """Number and hash of all submissions and ends: equal for equal runs."""
        state = self._read()
        return int(state.trace_count), int(state.trace_hash)

    @property
    def stalls(self) -> int:
        """How often a thread lost its turn because it slept outside the driver."""
        return int(self._read().stalls)

    @property
    def dead_events(self) -> int:
        """Calls of all processes on events whose context had ended: on a real driver such a handle may be anything."""
        state = self._read()
        return sum(int(process.dead_events) for process in state.processes[: state.processes_high])

    def queues_consistent(self) -> bool:
        """With all processes gone: no engine counts work that is nobody's."""
        state = self._read()
        return all(
            engine.active_count == 0 and engine.blocked == 0 and engine.work_queued_ns == engine.work_done_ns
            for engine in state.engines
        )

    def card(self, index: int = 0) -> Card:
        """A card as the last look of any process left it; a process that ended has left it exact."""
        state = self._read()
        card = state.card[index]
        shares = {}
        for process in state.processes[: state.processes_high]:
            share = process.shares[index]
            shares[process.pid] = Share(
                pid=process.pid,
                rank=process.rank,
                alive=bool(process.alive),
                **{
                    name: int(getattr(share, name))
                    for name in Share.__dataclass_fields__
                    if name not in ("pid", "rank", "alive")
                },
            )
        return Card(
            uuid=_uuid(bytes(card.uuid)),
            memory_bytes=card.memory_bytes,
            memory_used_bytes=card.memory_used_bytes,
            busy_ns=state.engines[index * ENGINES_PER_CARD].busy_ns,
            processes=shares,
        )


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
