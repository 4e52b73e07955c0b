"""Bitbrains GWA-T-12, trace rnd 2013-8, as a fleet: a VM is a workload of one pod, a card has 80 GiB and 71 GHz.

Use: python bitbrains.py DATA_FOLDER OUTPUT.parquet
"""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from trace_parquet import write_trace

MIB = 1 << 20
CARD_MIB = 80 * 1024
CARD_MHZ = 71_000.0
GRID_MS = 300_000
GRID_SAMPLES = 8640
SAMPLES_SHARE_MIN = 0.95
CARDS_PER_NODE = 8

START_MS = 1_375_315_200_000
"""2013-08-01T00:00Z. The first sample is of 2013-07-31T22:02:56Z, midnight where the machines stand (UTC+2): their days
are read as UTC days, so that a day of the trace is a day of the tables."""


@dataclass(frozen=True)
class Machine:
    """One VM: its number in the trace, its provisioned memory (MiB) and compute (MHz)."""

    number: str
    memory_mib: int
    core_mhz: float


def machines(data: Path) -> list[Machine]:
    """The VMs that fit the card and have 95 % of their samples, in the order of the trace."""
    with (data / "bitbrains" / "rnd_2013-8_quota.csv").open() as file:
        return [
            Machine(row["vm"], int(row["mem_cap_mib"]), float(row["cpu_cap_mhz"]))
            for row in csv.DictReader(file)
            if int(row["mem_cap_mib"]) <= CARD_MIB
            and float(row["cpu_cap_mhz"]) <= CARD_MHZ
            and int(row["samples"]) >= SAMPLES_SHARE_MIN * GRID_SAMPLES
        ]


def first_fit(quotas_mib: list[int]) -> list[int]:
    """Card of each VM: the first one that still has room for its memory quota."""
    used: list[int] = []
    cards = []
    for quota in quotas_mib:
        card = next((number for number, held in enumerate(used) if held + quota <= CARD_MIB), len(used))
        if card == len(used):
            used.append(0)
        used[card] += quota
        cards.append(card)
    return cards


def grid(data: Path, what: str, numbers: list[str]) -> npt.NDArray[np.float64]:
    """Use on the 5-minute grid, samples x VMs: ``what`` = ``mem`` (MiB) or ``cpu`` (MHz)."""
    parts = []
    for part in (1, 2, 3):
        table = pa.csv.read_csv(data / "bitbrains" / f"rnd_2013-8_{what}_5min_part{part}.csv.gz")
        parts.append(np.column_stack([table[number].to_numpy().astype(np.float64) for number in numbers]))
    return np.concatenate(parts)


def convert(data: Path, output: Path, *, days: int = 30) -> int:
    """Write the first days of the trace in long form; the number of rows."""
    chosen = machines(data)
    cards = first_fit([machine.memory_mib for machine in chosen])
    who = [
        {
            "cluster": "bitbrains",
            "node": f"host-{card // CARDS_PER_NODE:02d}",
            "gpu_uuid": f"card-{card:03d}",
            "gpu_model": "assumed 80 GiB",
            "tenant": "rnd",
            "namespace": "rnd",
            "workload_kind": "VirtualMachine",
            "workload": f"vm-{machine.number}",
            "pod": f"vm-{machine.number}",
            "container": "vm",
            "priority": "0",
        }
        for machine, card in zip(chosen, cards, strict=True)
    ]
    numbers = [machine.number for machine in chosen]
    memory, core = grid(data, "mem", numbers) * MIB, grid(data, "cpu", numbers) / CARD_MHZ
    memory_quota = np.array([machine.memory_mib for machine in chosen], np.float64) * MIB
    core_quota = np.array([machine.core_mhz for machine in chosen]) / CARD_MHZ

    def pieces() -> Iterator[tuple[npt.NDArray[np.int64], dict[str, object]]]:
        per_day = 86_400_000 // GRID_MS
        for first in range(0, min(days * per_day, len(memory)), per_day):
            count = len(memory[first : first + per_day])
            yield (
                np.tile(np.arange(len(chosen)), count),
                {
                    "timestamp_ms": np.repeat(START_MS + GRID_MS * np.arange(first, first + count), len(chosen)),
                    "gpu_memory_total_bytes": np.full(count * len(chosen), float(CARD_MIB * MIB)),
                    "memory_quota_bytes": np.tile(memory_quota, count),
                    "core_quota_ratio": np.tile(core_quota, count),
                    "memory_used_bytes": memory[first : first + count].ravel(),
                    "core_used_ratio": core[first : first + count].ravel(),
                },
            )

    return write_trace(output, who, pieces())


if __name__ == "__main__":
    rows = convert(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{rows} rows\n")
