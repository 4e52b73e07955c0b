"""The real traces in long form: as many VMs, cards and rows as the sources say, and values as they stand there."""

import csv
from pathlib import Path

import bitbrains
import gentd26
import numpy as np
import pytest

from egpu_runtime.fleet.trace import Rows
from egpu_runtime.fleet.trace_file import open_trace


@pytest.mark.parametrize(
    ("quotas", "cards"),
    [
        ([81_920, 1], [0, 1]),
        ([50_000, 40_000, 30_000, 40_000], [0, 1, 0, 1]),
        ([81_000, 81_000, 900, 20], [0, 1, 0, 0]),
        ([], []),
    ],
)
def test_first_fit(quotas: list[int], cards: list[int]) -> None:
    assert bitbrains.first_fit(quotas) == cards


def test_bitbrains_is_495_machines_on_48_cards(test_data: Path) -> None:
    machines = bitbrains.machines(test_data)
    assert len(machines) == 495
    assert len(set(bitbrains.first_fit([machine.memory_mib for machine in machines]))) == 48


def test_bitbrains_rows_are_the_sources(test_data: Path, tmp_path: Path) -> None:
    count = bitbrains.convert(test_data, tmp_path / "b.parquet", days=1)
    trace = open_trace(tmp_path / "b.parquet")
    rows = Rows.joined(list(trace.chunks()))
    assert count == len(rows) == trace.row_count == 495 * 288
    assert (trace.first_ms, trace.last_ms) == (1_375_315_200_000, 1_375_315_200_000 + 287 * 300_000)
    assert len({(c.node, c.gpu_uuid) for c in trace.containers}) == 48
    with (test_data / "bitbrains" / "rnd_2013-8_quota.csv").open() as file:
        quota = {f"vm-{row['vm']}": int(row["mem_cap_mib"]) for row in csv.DictReader(file)}
    number = [c.workload for c in trace.containers].index("vm-1")
    own = rows.container == number
    assert rows.memory_used_bytes[own][0] == 1278 << 20
    assert rows.core_used_ratio[own][0] == pytest.approx(747 / 71_000)
    assert rows.memory_quota_bytes[own][0] == quota["vm-1"] << 20
    assert not np.isnan(rows.memory_used_bytes).any()


def test_gentd26_is_144_pods_on_cards_of_their_own(test_data: Path, tmp_path: Path) -> None:
    gentd26.convert(test_data, tmp_path / "g.parquet")
    trace = open_trace(tmp_path / "g.parquet")
    rows = Rows.joined(list(trace.chunks()))
    assert len(trace.containers) == len({(c.node, c.gpu_uuid) for c in trace.containers}) == 144
    assert (trace.last_ms - trace.first_ms) / 3_600_000 == pytest.approx(22.8)
    assert np.all(rows.memory_quota_bytes == 48 << 30)
    assert np.nanmax(rows.memory_used_bytes) == 50_833_129_472
    assert np.nanmax(rows.core_used_ratio) == pytest.approx(0.996667, abs=1e-6)
    assert len(set(rows.container[~np.isnan(rows.core_used_ratio)].tolist())) == 143
    minutes = np.bincount(rows.container)
    assert (minutes >= 1300).sum() == 104
