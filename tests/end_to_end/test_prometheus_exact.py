"""A real Prometheus between the fleet and the collector: what it stored of our pages is in the tables, once.

The pages carry a number; the journal says what stood on each. Prometheus stamps the samples itself, so its own API
says at what time each page was stored; then journal, Prometheus, log and tables must agree sample for sample.
"""

import itertools
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_program import Prometheus, running_prometheus
from stages import Chain

from collector.contract.samples import SampleDecoder
from egpu_runtime.contract import metrics
from egpu_runtime.contract.units import STALE_MARKER_BITS
from egpu_runtime.fleet.pages import PAGE_SEQUENCE
from egpu_runtime.fleet.trace import COLUMNS

PACKAGES = {"egpu-runtime": "egpu_runtime", "egpu-collector": "collector", "egpu-pipeline": "pipeline"}
WINDOW_SECONDS = 10
PAGES_MIN = 20
JOB = "egpu-agent"
SETTLE_SECONDS = 45.0

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: ["127.0.0.1:{target_port}"]}}]
remote_write:
  - url: http://127.0.0.1:{collector_port}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms, min_shards: 2, max_shards: 4, max_backoff: 200ms}}
"""

Series = tuple[tuple[str, str], ...]
Sample = tuple[Series, int, float]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def write_trace(path: Path) -> None:
    """Eight pods on four cards of two nodes; one ends and one begins on the way; no two values are alike."""
    lines = [",".join(column.name for column in COLUMNS)]
    for moment in range(120):
        for pod in range(9):
            if (pod == 7 and moment >= 8) or (pod == 8 and moment < 8):
                continue
            card = pod % 4
            labels = f"c,n{card // 2},g{card},A100,85899345920,t,ns,Deployment,w{pod},p{pod},,main,0"
            used = f"{1_000_000_000 + moment * 1_000_003 + pod * 17},{(moment * 9 + pod) / 7000}"
            lines.append(f"{moment * 1000},{labels},20000000000,0.25,{used}")
    path.write_text("\n".join(lines) + "\n")


@dataclass
class Programs:
    """The processes around one run: they come and go, their folder stays."""

    chain: Chain
    collector_port: int

    @contextmanager
    def started(self, name: str, *arguments: object, end: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """Run a program in the background and end it by a signal; SIGTERM must give code 0."""
        log = self.chain.folder / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", PACKAGES[name], *map(str, arguments)], stdout=file, stderr=file
            )
        try:
            yield
        finally:
            process.send_signal(end)
            code = process.wait(timeout=60)
        assert code == (0 if end == signal.SIGTERM else -end), log.read_text()

    def collector(self, end: signal.Signals = signal.SIGTERM) -> "contextmanager[None]":
        return self.started(
            "egpu-collector",
            *("serve", "--log-directory", self.chain.log, "--listen-port", self.collector_port),
            end=end,
        )

    def pipeline(self, end: signal.Signals = signal.SIGTERM) -> "contextmanager[None]":
        return self.started("egpu-pipeline", "run", "--follow", *self.pipeline_arguments(), end=end)

    def pipeline_arguments(self) -> tuple[object, ...]:
        return (
            *("--log", self.chain.log, "--warehouse", self.chain.warehouse),
            *("--window-seconds", WINDOW_SECONDS, "--sample-interval-seconds", 1, "--poll-seconds", 0.1),
        )


def journal_of(path: Path) -> dict[int, dict[Series, float]]:
    """Page number -> its series (name and labels) and their values."""
    pages = {}
    for line in path.read_text().splitlines():
        page = json.loads(line)
        pages[page["sequence"]] = {
            tuple(sorted({**labels, "__name__": name}.items())): value for name, labels, value in page["samples"]
        }
    return pages


def logged(log: Path) -> dict[Sample, int]:
    """How often each sample of the job stands in the log, read as a consumer reads it; stale markers left out."""
    found: dict[Sample, int] = defaultdict(int)
    decoder = SampleDecoder()
    for block in blocks(log):
        samples = decoder.decode(block)
        stale = samples.value.view(np.uint64) == STALE_MARKER_BITS
        for series, time_ms, value in zip(
            samples.series[~stale].tolist(),
            samples.timestamp_ms[~stale].tolist(),
            samples.value[~stale].tolist(),
            strict=True,
        ):
            labels = decoder.labels(series)
            if ("job", JOB) in labels:
                found[labels, time_ms, value] += 1
    return found


def blocks(log: Path) -> Iterator[bytes]:
    """Blocks of all records, straight from the documented files."""
    for path in sorted(log.glob("*.segment.sqlite")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            yield from (row[0] for row in connection.execute("SELECT block FROM record ORDER BY row"))
        finally:
            connection.close()


def wait_until(what: str, met: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def flat(stored: dict[Series, list[tuple[int, float]]]) -> set[Sample]:
    return {(labels, time_ms, value) for labels, samples in stored.items() for time_ms, value in samples}


def check_pages(stored: dict[Series, list[tuple[int, float]]], pages: dict[int, dict[Series, float]]) -> int:
    """Every page Prometheus stored is the journal's page, whole; the number of pages."""
    by_time: dict[int, dict[Series, float]] = defaultdict(dict)
    for labels, samples in stored.items():
        own = tuple(pair for pair in labels if pair[0] not in ("job", "instance"))
        if dict(labels)["__name__"].startswith("egpu_"):
            for time_ms, value in samples:
                by_time[time_ms][own] = value
    sequence: Series = (("__name__", PAGE_SEQUENCE),)
    for page in by_time.values():
        number = int(page.pop(sequence))
        assert page == pages[number]
    return len(by_time)


def check_container_rows(chain: Chain, stored: dict[Series, list[tuple[int, float]]]) -> int:
    """container_usage_5m says of every pod and window what Prometheus stored; the samples it counts."""
    expected: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for labels, samples in stored.items():
        label = dict(labels)
        if label["__name__"] in (metrics.CONTAINER_MEMORY_USED.name, metrics.CONTAINER_CORE_USED.name):
            for time_ms, value in samples:
                window = time_ms - time_ms % (WINDOW_SECONDS * 1000)
                expected[label["pod"], window][label["__name__"]].append(value)
    rows = {(r["pod"], r["window_start_ms"]): r for r in chain.rows("container_usage_5m") if r["sample_count"]}
    assert set(rows) == set(expected)
    for key, of in expected.items():
        memory, core, row = of[metrics.CONTAINER_MEMORY_USED.name], of[metrics.CONTAINER_CORE_USED.name], rows[key]
        assert row["sample_count"] == len(memory)
        assert (row["memory_used_bytes_max"], row["memory_used_bytes_last"]) == (max(memory), memory[-1])
        assert row["memory_used_bytes_mean"] == pytest.approx(sum(memory) / len(memory), rel=1e-12)
        assert row["core_used_ratio_max"] == max(core)
        assert row["core_used_ratio_mean"] == pytest.approx(sum(core) / len(core), rel=1e-12)
        assert row["core_used_ratio_p95"] == sorted(core)[-(-len(core) * 95 // 100) - 1]
    return sum(row["sample_count"] for row in rows.values())


def check_card_rows(chain: Chain, stored: dict[Series, list[tuple[int, float]]]) -> None:
    """gpu_usage_5m counts each card's samples once."""
    expected: dict[tuple[str, int], list[float]] = defaultdict(list)
    for labels, samples in stored.items():
        label = dict(labels)
        if label["__name__"] == metrics.GPU_MEMORY_USED.name:
            for time_ms, value in samples:
                expected[label["gpu_uuid"], time_ms - time_ms % (WINDOW_SECONDS * 1000)].append(value)
    rows = {(r["gpu_uuid"], r["window_start_ms"]): r for r in chain.rows("gpu_usage_5m") if r["sample_count"]}
    assert {key: (len(values), max(values)) for key, values in expected.items()} == {
        key: (row["sample_count"], row["memory_used_bytes_max"]) for key, row in rows.items()
    }


@contextmanager
def scraped_fleet(chain: Chain) -> Iterator[tuple[Programs, Prometheus, Callable[[], "contextmanager[None]"]]]:
    """A Prometheus that scrapes a target not yet there and writes to a collector not yet there.

    The fleet is started by the caller once samples flow: Prometheus forwards only what is newer than its own start.
    """
    target_port, collector_port, prometheus_port = free_ports(3)
    programs = Programs(chain, collector_port)
    write_trace(chain.folder / "fleet.csv")
    configuration = CONFIGURATION.format(job=JOB, target_port=target_port, collector_port=collector_port)

    def fleet() -> "contextmanager[None]":
        return programs.started(
            "egpu-runtime",
            *("replay", "--trace", chain.folder / "fleet.csv", "--listen", f"127.0.0.1:{target_port}"),
            *("--journal", chain.folder / "journal.jsonl"),
        )

    with running_prometheus(chain.folder / "prometheus", configuration, prometheus_port) as prometheus:
        yield programs, prometheus, fleet


def pages_stored(prometheus: Prometheus) -> int:
    return sum(len(samples) for samples in prometheus.stored(PAGE_SEQUENCE, 600).values())


def check_everywhere(programs: Programs, stored: dict[Series, list[tuple[int, float]]]) -> None:
    """Journal, Prometheus, log and tables agree."""
    chain = programs.chain
    page_count = check_pages(stored, journal_of(chain.folder / "journal.jsonl"))
    assert page_count >= PAGES_MIN
    in_log = logged(chain.log)
    assert {sample for sample in in_log if dict(sample[0])["__name__"].startswith("egpu_")} == flat(stored)
    chain.run("egpu-pipeline", "run", *programs.pipeline_arguments())
    counted = check_container_rows(chain, stored)
    assert counted == sum(
        len(samples)
        for labels, samples in stored.items()
        if dict(labels)["__name__"] == metrics.CONTAINER_MEMORY_USED.name
    )
    check_card_rows(chain, stored)


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


OURS = f'{{job="{JOB}",__name__=~"egpu_.*"}}'


@pytest.mark.end_to_end
def test_what_prometheus_stored_is_in_the_tables_once(chain: Chain) -> None:
    with scraped_fleet(chain) as (programs, prometheus, fleet), programs.collector():
        wait_until("Prometheus writes to the collector", lambda: bool(logged(chain.log)))
        with fleet():
            wait_until(f"{PAGES_MIN} pages", lambda: pages_stored(prometheus) >= PAGES_MIN)
        time.sleep(1.5)  # the scrape that finds nobody
        stored = prometheus.stored(OURS, 600)
        wait_until("all in the log", lambda: flat(stored) <= set(logged(chain.log)))
    check_everywhere(programs, stored)
    assert max(logged(chain.log).values()) == 1  # no retry was needed, so none may be stored twice


@pytest.mark.end_to_end
def test_the_same_with_ten_kills_of_collector_and_pipeline(chain: Chain) -> None:
    pauses = itertools.cycle((1.6, 2.3, 1.9, 2.7))
    with scraped_fleet(chain) as (programs, prometheus, fleet):
        with programs.collector():
            wait_until("Prometheus writes to the collector", lambda: bool(logged(chain.log)))
        with fleet():
            grew = 0
            for _ in range(10):
                before = len(logged(chain.log))
                with programs.collector(end=signal.SIGKILL), programs.pipeline(end=signal.SIGKILL):
                    time.sleep(next(pauses))
                grew += len(logged(chain.log)) > before
            assert grew >= 8, "the kills fell before the work"
            wait_until(f"{PAGES_MIN} pages", lambda: pages_stored(prometheus) >= PAGES_MIN)
        time.sleep(1.5)
        stored = prometheus.stored(OURS, 600)
        with programs.collector():
            # With all in the log already, SIGTERM would find a process that has not begun.
            wait_until("the collector listens", lambda: listens(programs.collector_port))
            wait_until("all in the log", lambda: flat(stored) <= set(logged(chain.log)))
    check_everywhere(programs, stored)
