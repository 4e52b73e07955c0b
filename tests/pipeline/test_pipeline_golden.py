"""Hand-made samples with known windows to known rows: every ``golden/*.test``, through a real log and real files."""

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pipeline_log import append
from pipeline_notation import Case, parse, same
from pipeline_topic import settings_of

from egpu_runtime.contract.configuration import load
from pipeline.contract.tables import DATA_FILE
from pipeline.run import Order, run_pipeline
from pipeline.settings import PipelineSettings

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.test"))


def run_case(case: Case, folder: Path) -> None:
    append(folder / "log", [case.samples], received_ms=max(time_ms for _, time_ms, _ in case.samples))
    given = {"cluster_default": "c", **case.settings, **settings_of(folder)}
    settings = load(PipelineSettings, file_text="", overrides=given)
    order = Order(folder / "log", folder / "warehouse")
    run_pipeline(order, settings, stop=threading.Event(), progress=lambda _: None)


def read(folder: Path, table: str) -> list[dict[str, object]]:
    files = sorted((folder / "warehouse" / table).rglob(DATA_FILE))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def check(given: str, folder: Path) -> None:
    case = parse(given)
    run_case(case, folder)
    for table, count in case.counts.items():
        assert len(read(folder, table)) == count, f"{table}: {read(folder, table)}"
    for expected in case.expectations:
        start = "day_start_ms" if expected.table == "workload_profile_1d" else "window_start_ms"
        rows = [
            row
            for row in read(folder, expected.table)
            if row[start] == expected.window_ms and all(row[name] == text for name, text in expected.labels.items())
        ]
        if expected.absent:
            assert rows == [], expected.line
            continue
        assert len(rows) == 1, f"{expected.line}: {len(rows)} rows of {read(folder, expected.table)}"
        wrong = {name: rows[0][name] for name, text in expected.values.items() if not same(rows[0][name], text)}
        assert wrong == {}, expected.line


@pytest.mark.usefixtures("any_log")
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path, tmp_path: Path) -> None:
    check(path.read_text(), tmp_path)


def test_a_wrong_expectation_fails(tmp_path: Path) -> None:
    text = (
        'load 1m\n  egpu_gpu_memory_used_bytes{node="n",gpu_uuid="g"} 1\nrows gpu_usage_5m\n  {} @0m sample_count=2\n'
    )
    with pytest.raises(AssertionError):
        check(text, tmp_path)
