"""From a sample to its row in Hive, through collector, Kafka, Flink and finalise; prints one JSON line.

A row is seen once its hour is over. Measured is what comes after that: from the acknowledgement of the body that
carries the watermark past the hour's end, to the hour's rows in a SELECT of HiveServer2. Sample times run fast, the
engines are real ones; checkpoints and looks of finalise are every ten seconds. The delay of a sample adds the rest of
its hour and ``lateness_seconds``: for the median sample half an hour.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "conformance"))
import engines_running
from conformance_input import START_MS, Way, phases, scrapes
from conformance_profiles import FullProfile
from conformance_send import send
from engine_set import Engines
from stages import command

from pipeline.contract.tables import CONTAINER_USAGE
from pipeline.partitions import partition_values
from pipeline.warehouse_hive import HiveServer

HOURS = 12
HOUR_MS = 3_600_000
PAST_THE_HOUR_MS = 7 * 60_000
"""Lateness, and a scrape of every sender."""
EVERY_SECONDS = 10
WAIT_SECONDS_MAX = 300.0
LATENESS_SECONDS = 300


def seconds_to_rows(full: FullProfile) -> Iterator[float]:
    """For each hour but the last: seconds from the body that ends it to its rows."""
    found = scrapes(1, hours=HOURS)
    sent_ms = START_MS
    with HiveServer(full.hive) as server:
        for hour_ms in range(START_MS, START_MS + (HOURS - 1) * HOUR_MS, HOUR_MS):
            until_ms = hour_ms + HOUR_MS + PAST_THE_HOUR_MS
            part = [scrape for scrape in found if sent_ms <= scrape.time_ms < until_ms]
            send(full.address, phases(part, Way(late_share=0.0))[0])
            sent_ms, started = until_ms, time.monotonic()
            day, hour = partition_values(hour_ms, by_hour=True)
            query = f"SELECT 1 FROM {CONTAINER_USAGE.name} WHERE dt = '{day}' AND hour = '{hour}' LIMIT 1"
            while not server.rows(query):
                if time.monotonic() - started > WAIT_SECONDS_MAX:
                    raise SystemExit(f"no row of {day} {hour}:00 after {WAIT_SECONDS_MAX:.0f} s")
                time.sleep(0.2)
            yield time.monotonic() - started


@contextmanager
def finalising(full: FullProfile) -> Iterator[None]:
    """``egpu-pipeline finalise`` as the service it is."""
    arguments = (
        *("finalise", "--config", full.config, "--source", "windows", "--warehouse", full.warehouse),
        *("--hive", full.hive, "--finalise-every-seconds", EVERY_SECONDS),
    )
    with (full.folder / "finalise.log").open("wb") as log:
        process = subprocess.Popen(command("egpu-pipeline", *arguments), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def measured() -> list[float]:
    """Seconds from the end of an hour to its rows, ascending."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "engines"
        with engines_running.running(("kafka", "flink", "hive"), home=home):
            full = FullProfile(Path(name) / "full", Engines(home), "delay")
            with full.running():
                full.submit("--flink-checkpoint-seconds", EVERY_SECONDS)
                with finalising(full):
                    return sorted(seconds_to_rows(full))


def main() -> None:
    """Measure and print."""
    seconds = measured()
    rows = []
    for name, after, rest_of_hour in (("p50", statistics.median(seconds), 1800), ("p99", seconds[-1], 3564)):
        whole = (rest_of_hour + LATENESS_SECONDS + after) / 60
        rows.append({"what": f"hour's end to row in Hive, {name} of {len(seconds)} hours", "value": after, "unit": "s"})
        rows.append({"what": f"sample to row in Hive, {name}", "value": whole, "unit": "min"})
    print(json.dumps({"bench": "delay", "rows": rows}))


if __name__ == "__main__":
    main()
