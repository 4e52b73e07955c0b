"""A hand-made week: two services on two cards; known windows, known rows, a known plan. Every number here is by hand.

``voice`` holds a whole 80 GiB card. Its first window reads 1, 2, 3, 4, 5 GiB and 10, 20, 30, 40, 50 % of the card, one
sample is missing in the second, and on Wednesday at 09:17 one sample reaches 6400 MiB; else it is at 2 GiB and 10 %.
``ocr`` holds 40 GiB and 40 % of another card and swings between 20 and 30 GiB at 30 %: there is nothing to cut.
Seven days of history give a multiplier of 2: voice gets 2 x 6400 + 512 = 13312 MiB and 50 % x 1.15 = 58 %. Both slices
fit one card: 13312 + 40960 <= 81920 MiB, 58 + 40 <= 100 %.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stages import Chain

START_MS = 1_767_571_200_000  # Monday 2026-01-05T00:00Z
MINUTE_MS = 60_000
MINUTES = 7 * 24 * 60
MIB = 1 << 20
GIB = 1 << 30
CARD = 80 * GIB
PEAK_MINUTE = 2 * 24 * 60 + 9 * 60 + 17
HEADER = (
    "timestamp_ms,cluster,node,gpu_uuid,gpu_model,gpu_memory_total_bytes,tenant,namespace,workload_kind,workload,pod,"
    "pod_uid,container,priority,memory_quota_bytes,core_quota_ratio,memory_used_bytes,core_used_ratio"
)


def voice(minute: int) -> tuple[int, float] | None:
    """Bytes and share of the card at a minute; None where the sample is missing."""
    if minute == 7:
        return None
    if minute < 5:
        return (minute + 1) * GIB, (minute + 1) / 10
    return (6400 * MIB if minute == PEAK_MINUTE else 2 * GIB), 0.1


def ocr(minute: int) -> tuple[int, float]:
    """Swings between 20 and 30 GiB every ten minutes."""
    return (30 if minute // 10 % 2 else 20) * GIB, 0.3


def trace_lines() -> Iterator[str]:
    """The week in the long form that replay reads."""
    yield HEADER
    for minute in range(MINUTES):
        time = START_MS + minute * MINUTE_MS
        if (use := voice(minute)) is not None:
            card = f"{time},c1,n1,GPU-a,A100,{CARD}"
            yield f"{card},speech,tts,Deployment,voice,voice-0,uid-v,server,0,,,{use[0]},{use[1]}"
        memory, core = ocr(minute)
        card = f"{time},c1,n2,GPU-b,A100,{CARD}"
        yield f"{card},papers,scan,Deployment,ocr,ocr-0,uid-o,server,0,{40 * GIB},0.4,{memory},{core}"


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The week through the chain."""
    chain = Chain(tmp_path_factory.mktemp("golden"))
    trace = chain.folder / "week.csv"
    Path(trace).write_text("\n".join(trace_lines()) + "\n")
    with chain.collector() as url:
        chain.replay(url, "--trace", trace)
    chain.roll_up("--sample-interval-seconds", 60)
    return chain


def test_windows_of_containers(golden: Chain) -> None:
    rows = golden.rows("container_usage_5m")
    assert len(rows) == 2 * MINUTES // 5
    first, second = [row for row in rows if row["workload"] == "voice"][:2]
    expected = {
        "window_start_ms": START_MS,
        "gpu_model": "A100",
        "tenant": "speech",
        "attribution": "attributed",
        "memory_quota_bytes": float(CARD),
        "core_quota_ratio": 1.0,
        "memory_used_bytes_max": 5.0 * GIB,
        "memory_used_bytes_mean": 3.0 * GIB,
        "memory_used_bytes_last": 5.0 * GIB,
        "core_used_ratio_max": 0.5,
        "core_used_ratio_mean": pytest.approx(0.3, rel=1e-12),
        # nearest rank: ceil(0.95 x 5) = the fifth of five
        "core_used_ratio_p95": 0.5,
        "gpu_busy_seconds": None,
        "sample_count": 5,
        "observed_ratio": 1.0,
    }
    assert {name: first[name] for name in expected} == expected
    # minute 7 is missing: four samples of five
    assert (second["sample_count"], second["observed_ratio"]) == (4, 0.8)
    assert (second["memory_used_bytes_max"], second["core_used_ratio_p95"]) == (2.0 * GIB, 0.1)


def test_windows_of_cards(golden: Chain) -> None:
    first = golden.rows("gpu_usage_5m")[0]
    expected = {
        "gpu_uuid": "GPU-a",
        "window_start_ms": START_MS,
        "memory_total_bytes": float(CARD),
        "memory_used_bytes_max": 5.0 * GIB,
        "utilization_ratio_max": 0.5,
        "memory_allocated_bytes": float(CARD),
        "core_allocated_ratio": 1.0,
        "container_count": 1,
    }
    assert {name: first[name] for name in expected} == expected


def test_days_of_workloads(golden: Chain) -> None:
    days = [row for row in golden.rows("workload_profile_1d") if row["workload"] == "voice"]
    assert len(days) == 7
    monday, wednesday = days[0], days[2]
    assert monday["hourly_memory_used_bytes_max"] == [5.0 * GIB, *[2.0 * GIB] * 23]
    assert wednesday["hourly_memory_used_bytes_max"][9] == 6400.0 * MIB
    # twelve windows of the first hour: one at 0.5, eleven at 0.1; ceil(0.95 x 12) = the twelfth
    assert monday["hourly_core_used_ratio_p95"][0] == 0.5
    assert monday["hourly_core_used_ratio_mean"][0] == pytest.approx((0.3 + 11 * 0.1) / 12, rel=1e-12)
    # 287 windows are whole, one has four samples of five
    assert monday["observed_ratio"] == pytest.approx((287 + 0.8) / 288, rel=1e-12)
    assert (monday["live_replicas"], monday["replicas_max"], monday["gpu_uuids"]) == (1, 1, ["GPU-a"])
    assert monday["memory_used_bytes_median"] == 2.0 * GIB
    assert monday["core_idle_window_ratio"] == 0.0


def test_plan(golden: Chain) -> None:
    plan = golden.plan()
    (resize,) = plan["resizes"]
    assert (resize["workload"]["name"], resize["replicas"]) == ("voice", 1)
    assert resize["before"] == {"memory_mib": 81_920, "core_percent": 100}
    assert resize["after"] == {"memory_mib": 13_312, "core_percent": 58}
    # the last 30 % of 168 h, whole hours: made from 117.6 -> 118 h, judged on 50 h
    assert resize["backtest"]["split_ms"] == START_MS + 118 * 60 * MINUTE_MS
    assert resize["backtest"]["violated_ratio"] == 0.0

    (group,) = plan["groups"]
    assert sorted(member["name"] for member in group["members"]) == ["ocr", "voice"]
    assert (group["cards"], group["capacity_mib"], group["oversubscribed"]) == (1, 81_920, False)
    # Monday 00 h: 5 GiB of voice and 30 GiB of ocr; Wednesday 09 h: 6400 MiB and 30 GiB
    assert group["load_mib"][0] == 35 * 1024
    assert group["load_mib"][2 * 24 + 9] == 6400 + 30 * 1024
    assert plan["cards"] == [{"cluster": "c1", "gpu_model": "A100", "before": 2, "after": 1, "bound": 1}]
    assert plan["refusals"] == []


def test_the_same_tables_give_the_same_plan(golden: Chain) -> None:
    assert golden.plan() == golden.plan()
