"""Records through format and rollup give the rows of series_windows_5m that plain Python makes of the samples."""

import base64
import math
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from conformance_input import scrapes
from conftest import TESTS, Lines, Miniature
from pipeline_fleet import fleet
from pipeline_notation import START_MS, parse
from pipeline_request import Sample, write_request
from pipeline_windows import Row, series_windows
from test_flink_format import named

from pipeline.contract.tables import SERIES_WINDOWS
from pipeline.flink.series_table import series_table, series_table_text
from pipeline.series_windows import parse_series

pytestmark = pytest.mark.end_to_end
"""They need a JDK and the installed Flink."""

GOLDEN = sorted((TESTS / "pipeline" / "golden").glob("*.test"))
ROW = "ROW<ts BIGINT, `value` DOUBLE, series_id BIGINT, series STRING>"
OPTIONS = {"series-table": series_table_text(series_table()), "series-window": "300 s"}


def rows_of(lines: Lines) -> list[Row]:
    """What the tool printed, by column."""
    rows = []
    for line in lines:
        if line[0] != "window":
            continue
        row: Row = {"window_start_ms": int(line[1])}
        columns = [column for column in SERIES_WINDOWS.columns if column.aggregate != "window"]
        for column, field in zip(columns, line[2:], strict=True):
            match column.type:
                case "STRING":
                    row[column.name] = base64.b64decode(field).decode()
                case "BINARY":
                    row[column.name] = base64.b64decode(field)
                case "BIGINT":
                    row[column.name] = int(field)
                case _:
                    (row[column.name],) = struct.unpack("<d", struct.pack("<q", int(field)))
        rows.append(row)
    return rows


def check(miniature: Miniature, samples: Sequence[Sample], batches: Iterable[Sequence[Sample]]) -> None:
    """The batches, which hold the samples in any order, give exactly the expected rows; means to 1e-12."""
    records = [write_request(batch) for batch in batches]
    made = {
        (row["series"], row["window_start_ms"]): row for row in rows_of(miniature("windows", ROW, records, OPTIONS))
    }
    expected = series_windows(samples)
    braced = {str(row["series"]): named(dict(parse_series(str(row["series"])))) for row in expected}
    assert set(made) == {(braced[str(row["series"])], row["window_start_ms"]) for row in expected}
    for row in expected:
        one = made[(braced[str(row["series"])], row["window_start_ms"])]
        for name, value in row.items():
            if name == "series":
                continue
            if name in ("value_mean", "value_rise"):
                assert math.isclose(one[name], value, rel_tol=1e-12, abs_tol=1e-300), (row, one)  # type: ignore[arg-type]
            else:
                assert one[name] == value, (name, row, one)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_table(miniature: Miniature, path: Path) -> None:
    samples = parse(path.read_text()).samples
    check(miniature, samples, [samples])


@pytest.mark.parametrize("seed", [1, 2])
def test_all_that_goes_wrong_in_any_order_and_split(miniature: Miniature, seed: int) -> None:
    """Every dialect, resets, duplicates, stale markers, replicas: shuffled over records, some records twice."""
    samples = [
        (dict(sample.series), sample.time_ms, struct.unpack("<d", sample.value)[0])
        for scrape in scrapes(seed, hours=0.5)
        for sample in scrape.samples
    ]
    draw = random.Random(seed)
    shuffled = draw.sample(samples, len(samples))
    batches = [shuffled[start : start + 500] for start in range(0, len(shuffled), 500)]
    check(miniature, samples, [*batches, *batches[:3]])


def test_labels_that_change_with_every_sample(miniature: Miniature) -> None:
    samples = fleet(5, hours=2, step_ms=20_000)
    check(miniature, samples, [samples[start : start + 300] for start in range(0, len(samples), 300)])


def test_a_window_full_of_times_and_of_repetition_is_bounded(miniature: Miniature) -> None:
    """Falling times, each said three times, 50,000 of them: what the order of arrival cannot make slow or large."""
    labels = {"__name__": "egpu_gpu_memory_used_bytes", "gpu_uuid": "g"}
    samples = [(labels, START_MS + at, float(at % 97)) for at in range(50_000, 0, -1)]
    check(miniature, samples, [samples, samples[::2], samples[::-1]])
