"""Pages for a scraper: one time of the trace a page, numbered, in the journal before they are served."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child
from prometheus_client.parser import text_string_to_metric_families
from test_runtime_replay import write_fleet

from egpu_runtime.fleet.listen import Listener
from egpu_runtime.fleet.pages import PAGE_SEQUENCE, Pages
from egpu_runtime.fleet.series import SeriesTable
from egpu_runtime.fleet.trace_file import open_trace


def parsed(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[str, Path, "subprocess.Popen[str]"]]:
    write_fleet(tmp_path / "f.csv", pods=2, times=3)
    journal = tmp_path / "journal.jsonl"
    with Child(
        [
            sys.executable,
            "-m",
            "egpu_runtime",
            "replay",
            "--trace",
            str(tmp_path / "f.csv"),
            "--listen",
            "127.0.0.1:0",
            "--journal",
            str(journal),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        url = process.stderr.readline().split("listening on ")[1].strip()
        yield url, journal, process
        process.kill()


def test_pages_are_served_as_the_journal_says(listening) -> None:
    url, journal, process = listening
    pages = [parsed(urllib.request.urlopen(url, timeout=5).read().decode()) for _ in range(5)]
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [page.pop((PAGE_SEQUENCE, ())) for page in pages] == [1, 2, 3, 4, 5]
    assert [line["sequence"] for line in written] == [1, 2, 3, 4, 5]
    assert [line["trace_ms"] for line in written] == [0, 60_000, 120_000, -1, -1]
    for page, line in zip(pages, written, strict=True):
        assert page == {(n, tuple(sorted(labels.items()))): v for n, labels, v in line["samples"]}
    assert [len(page) for page in pages] == [20, 20, 20, 0, 0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0


def test_only_metrics_is_served(listening) -> None:
    url, journal, _ = listening
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("/metrics", "/"), timeout=5)
    refused.value.close()
    assert refused.value.code == 404
    assert journal.read_text() == ""


def test_speed_leaves_pages_out(tmp_path: Path) -> None:
    write_fleet(tmp_path / "f.csv", pods=1, times=10)
    trace = open_trace(tmp_path / "f.csv")
    pages = Pages(trace, SeriesTable(trace.containers), speed=60.0)  # a minute of trace a second
    shown = [pages.turn(seconds) for seconds in (0.0, 0.5, 1.0, 4.9, 9.0)]
    assert [page.trace_ms for page in shown] == [0, 0, 60_000, 240_000, 540_000]
    assert [page.sequence for page in shown] == [1, 2, 3, 4, 5]


def test_a_page_of_the_default_fleet_is_quick(tmp_path: Path) -> None:
    """A scrape a second must leave the second to others."""
    write_fleet(tmp_path / "f.csv", pods=50, times=4)
    listener = Listener(open_trace(tmp_path / "f.csv"), None, None)
    listener.next_page()
    started = time.perf_counter()
    page = listener.next_page()
    assert time.perf_counter() - started < 0.5
    assert len(parsed(page.decode())) == 501
