"""Real traces through Kafka, Flink and Hive: the advisor's plan is the one of the embedded profile, read by PyHive."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_set import Engines
from stages import Chain

sys.path.append(str(Path(__file__).resolve().parents[1] / "traces"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "conformance"))
import bitbrains
import gentd26
from conformance_profiles import FullProfile
from waiting import wait_for

pytestmark = [pytest.mark.end_to_end, pytest.mark.full]

READ_SECONDS_MAX = 1500.0

Convert = Callable[[Path, Path], object]

TRACES: dict[str, tuple[Convert, int, tuple[object, ...]]] = {
    "gentd26": (gentd26.convert, 60, ("--history-min", "6h", "--split-min-hours", 6)),
    "bitbrains": (bitbrains.convert, 300, ("--split-ratio", 0.3)),
}
"""Trace -> converter, sample interval in seconds, how the advisor is asked."""


def decided(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without what names the run: when it was made and from where."""
    return {name: value for name, value in plan.items() if name not in ("made_ms", "warehouse")}


@pytest.mark.parametrize("name", TRACES)
def test_the_plan_is_the_embedded_one(name: str, engines: Engines, tmp_path: Path, *, test_data: Path) -> None:
    convert, interval_seconds, asked = TRACES[name]
    trace = tmp_path / "trace.parquet"
    convert(test_data, trace)
    interval = ("--sample-interval-seconds", interval_seconds)

    embedded = Chain(tmp_path)
    with embedded.collector() as url:
        sent = embedded.replay(url, "--trace", trace)
    embedded.roll_up(*interval)

    with FullProfile(tmp_path / "full", engines, f"trace_{name}").running() as full:
        full.submit(*interval)
        again = embedded.replay(f"{full.address()}/api/v1/write", "--trace", trace)
        assert again["samples_sent"] == sent["samples_sent"]
        # A month in minutes: seven hundred hours are committed to the metastore one after the other.
        wait_for(lambda: full.unread() == 0, "the job reads the log to its end", seconds=READ_SECONDS_MAX)
        full.pipeline("cancel", "--drain")
        full.pipeline(
            *("finalise", "--source", "windows", "--warehouse", full.warehouse, "--hive", full.hive, *interval)
        )
        scanned = full.chain.run("egpu-advisor", "scan", "--warehouse", full.hive, "--format", "json", *asked)

    expected, found = decided(embedded.plan(*asked)), decided(json.loads(scanned.stdout))
    assert expected["workload_count"] > 100
    assert found == expected
