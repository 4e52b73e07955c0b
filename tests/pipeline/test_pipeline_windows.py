"""An hour made from series windows has the rows of the hour made from samples, or says of which targets it has not."""

import random
import struct
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pipeline_fleet import fleet
from pipeline_log import STALE, Sample, append
from pipeline_notation import START_MS, parse
from pipeline_windows import HOUR_MS, differences, hour_of, row_of, series_windows, table_of

from egpu_runtime.contract.configuration import load
from pipeline.rollup import Grid
from pipeline.rows import HourRules, HourTables, hour_tables_of_parts
from pipeline.series_windows import DamagedRows, WindowsTable, parse_series
from pipeline.settings import PipelineSettings

sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from conformance_input import scrapes

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.test"))
WINDOW_MS = 300_000
OVERLAPPING = {"facts"}
"""Golden cases in which two series of one target overlap in a window, with values of their own."""


def windows_table(rows: list[dict[str, object]], hour_ms: int) -> WindowsTable:
    return WindowsTable(table_of(hour_of(rows, hour_ms)), hour_ms - WINDOW_MS, Grid(WINDOW_MS))


def hour_made(rows: list[dict[str, object]], hour_ms: int = START_MS, interval_seconds: float = 15.0) -> HourTables:
    rules = HourRules(hour_ms, WINDOW_MS, interval_seconds)
    return hour_tables_of_parts(windows_table(rows, hour_ms).parts(cluster_default="c"), rules)


def check(samples: list[Sample], folder: Path, run_log, rows_of, **given: object) -> list[str]:  # type: ignore[no-untyped-def]
    """Every hour both ways: rows may differ only where a target was said to be ambiguous. Returns those said."""
    settings = load(PipelineSettings, file_text="", overrides={"cluster_default": "c", **given})
    batches = [samples[start : start + 2_000] for start in range(0, len(samples), 2_000)]
    append(folder / "log", batches, received_ms=max(time for _, time, _ in samples))
    run_log(folder, **{"cluster_default": "c", **given})
    expected = rows_of(folder)
    windows = series_windows(samples)
    said: list[str] = []
    for hour in sorted({int(row["window_start_ms"]) // HOUR_MS for row in expected["gpu_usage_5m"]}):
        made = hour_made(windows, hour * HOUR_MS, settings.sample_interval_seconds)
        for name, table in (("container_usage_5m", made.container), ("gpu_usage_5m", made.card)):
            of_hour = [row for row in expected[name] if int(row["window_start_ms"]) // HOUR_MS == hour]
            for row, why in differences(table.to_pylist(), of_hour):
                assert any(f"/{row['gpu_uuid']}" in each for each in made.ambiguous), why
        said += made.ambiguous
    return said


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path, tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    case = parse(path.read_text())
    said = check(case.samples, tmp_path, run_log, rows_of, **case.settings)
    assert bool(said) == (path.stem in OVERLAPPING), said


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_dialect_with_all_that_goes_wrong(seed: int, tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    """Resets, gaps, duplicates, NaN and stale markers, replicas, pods that move, labels that change, hours' ends."""
    samples = [
        (dict(sample.series), sample.time_ms, struct.unpack("<d", sample.value)[0])
        for scrape in scrapes(seed, hours=0.6, start_ms=START_MS + HOUR_MS * 3 // 4)
        for sample in scrape.samples
    ]
    said = check(samples, tmp_path, run_log, rows_of, sample_interval_seconds=30)
    # Only where a fact changes and changes back while two replicas scrape.
    assert {each.split(" of ")[1].split("/")[0] for each in said} <= {"east"}


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_change_with_every_sample(seed: int, tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    samples = fleet(seed, hours=3, step_ms=20_000)
    said = check(samples, tmp_path, run_log, rows_of)
    assert {each.split(" of ")[0] for each in said} == {"egpu_container_memory_used_bytes"}


def memory(at: int, value: float, **more: str) -> Sample:
    labels = {"__name__": "egpu_container_memory_used_bytes", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    return {**labels, "pod": "p", "container": "c", **more}, START_MS + at, value


def core(at: int, value: float, **more: str) -> Sample:
    labels, time, _ = memory(at, value, **more)
    return {**labels, "__name__": "egpu_container_core_used_ratio"}, time, value


def test_a_fact_that_changes_in_mid_window_adds_up(tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    samples = [memory(at, at / 1000, tenant="a" if at < 150_000 else "b") for at in range(0, 300_000, 15_000)]
    samples += [core(at, at / 1e6, tenant="a" if at < 150_000 else "b") for at in range(0, 300_000, 30_000)]
    assert check(samples, tmp_path, run_log, rows_of) == []


def test_a_card_goes_on_when_pods_come_and_go(tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    """dcgm-exporter says a card's value in the name of each pod on it, or of none."""
    samples: list[Sample] = []
    for at in range(0, 900_000, 15_000):
        pods = [pod for pod, since, until in (("p", 100_000, 700_000), ("q", 310_000, 400_000)) if since <= at < until]
        for labels in ([{"pod": pod, "namespace": "s", "container": "c"} for pod in pods]) or [{}]:
            for name, value in (("DEV_FB_USED", at // 1000), ("DEV_GPU_UTIL", at // 10_000)):
                card = {"__name__": f"DCGM_FI_{name}", "UUID": "g", "Hostname": "n", "modelName": "T4"}
                samples.append(({**card, **labels}, START_MS + at, float(value)))
    assert check(samples, tmp_path, run_log, rows_of) == []


def test_a_p95_below_the_greatest_does_not_add_up(tmp_path: Path, run_log, rows_of) -> None:  # type: ignore[no-untyped-def]
    samples = [core(at, at / 1e6, tenant="a" if at < 150_000 else "b") for at in range(0, 300_000, 15_000)]
    assert check(samples, tmp_path, run_log, rows_of) == ["egpu_container_core_used_ratio of c/n/g/s/p/c"]


def test_a_row_written_twice_counts_once() -> None:
    samples = [memory(at, at / 7) for at in range(0, 300_000, 15_000)]
    once = series_windows(samples)
    twice = hour_made(once + once)
    assert twice.container.to_pylist() == hour_made(once).container.to_pylist()
    assert twice.ambiguous == ()


def test_a_row_written_twice_with_other_values_is_ambiguous() -> None:
    samples = [memory(at, at / 7) for at in range(0, 300_000, 15_000)]
    assert hour_made(series_windows(samples) + series_windows(samples[:7])).ambiguous


def test_a_value_that_stands_adds_up_under_two_names() -> None:
    samples = [memory(at, 5.0, tenant=tenant) for at in range(0, 300_000, 15_000) for tenant in "ab"]
    made = hour_made(series_windows([*samples, memory(299_999, 5.0, tenant="b")]))
    assert made.ambiguous == ()
    assert made.container.to_pylist()[0]["sample_count"] == 21


def test_a_counter_rises_over_the_hour_from_the_window_before() -> None:
    rows = [
        row_of('egpu_container_gpu_busy_seconds_total{container="c",gpu_uuid="g",pod="p"}', START_MS + at, values)
        for at, values in ((-600_000, {0: 0.0}), (-300_000, {0: 5.0, 9: 7.0}), (0, {0: 9.0}), (600_000, {0: 20.0}))
    ]
    made = hour_made(rows)
    assert [row["gpu_busy_seconds"] for row in made.container.to_pylist()] == [2.0, None]
    assert made.sample_count == 2


def test_the_samples_of_an_hour_are_counted_as_from_the_log(tmp_path: Path, run_log) -> None:  # type: ignore[no-untyped-def]
    samples = [sample for sample in fleet(4, hours=1) if sample[0].get("priority", "") != "1"]
    append(tmp_path / "log", [samples], received_ms=START_MS + 30 * HOUR_MS)
    summary = run_log(tmp_path, cluster_default="c")
    assert hour_made(series_windows(samples), START_MS + 22 * HOUR_MS).sample_count == summary.samples.distinct


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", 'x",cluster="evil', "{}", "=", "ü"])
def test_any_label_value_survives(text: str) -> None:
    rows = series_windows([memory(0, 1.0, tenant=text, cluster=text)])
    (made,) = hour_made(rows).container.to_pylist()
    assert (made["tenant"], made["cluster"]) == (text, text)


def test_clusters_are_in_order_and_apart() -> None:
    samples = [memory(0, 1.0, cluster=name) for name in ("b", "a", "", "é", "B")]
    random.Random(1).shuffle(samples)
    made = hour_made(series_windows(samples)).container.to_pylist()
    assert [row["cluster"] for row in made] == sorted(["b", "a", "c", "é", "B"])


def test_no_rows_are_an_hour_without_rows() -> None:
    made = hour_made([row_of("up", START_MS, {0: 1.0})])
    assert (made.container.num_rows, made.card.num_rows, made.sample_count) == (0, 0, 0)
    assert hour_made([]).container.num_rows == 0


def test_stale_markers_and_nan_are_no_samples() -> None:
    assert series_windows([memory(0, STALE), memory(1, float("nan")), memory(2, float("inf"))]) == []


def damaged(**changed: object) -> WindowsTable:
    row = {**series_windows([memory(0, 1.0), memory(9, 2.0)])[0], **changed}
    return windows_table([row], START_MS)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sample_count": 3}, "do not agree"),
        ({"times": b"\0\0\0"}, "whole numbers"),
        ({"times": struct.pack("<2i", 0, WINDOW_MS)}, "outside its window"),
        ({"window_start_ms": START_MS + 1}, "a window is none"),
        ({"series": "{a="}, "is no series"),
    ],
)
def test_damaged_rows_are_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(DamagedRows, match=why):
        list(damaged(**changed).parts(cluster_default="c"))


def test_a_row_without_a_series_is_counted() -> None:
    table = damaged(series=None)
    assert table.nameless_count == 1
    assert hour_tables_of_parts(table.parts(cluster_default="c"), HourRules(START_MS, WINDOW_MS, 15)).sample_count == 0


def test_plain_tables_and_coded_ones_read_alike() -> None:
    rows = series_windows([memory(at, 1.0, pod=pod) for at in range(0, 900_000, 30_000) for pod in "ab"])
    plain = table_of(rows)
    coded = plain
    for name in ("series", "times"):
        coded = coded.set_column(coded.schema.get_field_index(name), name, coded.column(name).dictionary_encode())
    halves = pa.concat_tables([coded.slice(0, 3), coded.slice(3)])
    made = [
        hour_tables_of_parts(
            WindowsTable(table, START_MS - WINDOW_MS, Grid(WINDOW_MS)).parts(cluster_default="c"),
            HourRules(START_MS, WINDOW_MS, 30),
        ).container.to_pylist()
        for table in (plain, coded, halves)
    ]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 6


def test_parse_series() -> None:
    assert parse_series('up{a="x\\\\n\\n\\"",b=""}') == [("__name__", "up"), ("a", 'x\\n\n"'), ("b", "")]
    assert parse_series("up") == [("__name__", "up")]
