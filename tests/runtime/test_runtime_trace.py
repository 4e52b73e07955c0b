"""Reading traces: what is accepted means what the documentation says, what is wrong is named and nothing is sent."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from recording_receiver import RecordingReceiver, recording_receiver

from egpu_runtime.__main__ import app
from egpu_runtime.contract.process import run
from egpu_runtime.fleet.trace import COLUMNS, Rows, pod_uid_of
from egpu_runtime.fleet.trace_file import open_trace

NAMES = [column.name for column in COLUMNS]
ROW = {
    "timestamp_ms": "1000",
    "cluster": "c",
    "node": "n",
    "gpu_uuid": "GPU-1",
    "gpu_model": "A100",
    "gpu_memory_total_bytes": "80000",
    "tenant": "t",
    "namespace": "ns",
    "workload_kind": "Deployment",
    "workload": "w",
    "pod": "p",
    "pod_uid": "",
    "container": "main",
    "priority": "0",
    "memory_quota_bytes": "",
    "core_quota_ratio": "",
    "memory_used_bytes": "500",
    "core_used_ratio": "0.25",
}


def rows_text(*changes: dict[str, str]) -> str:
    """CSV of ROW with each of the changes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, NAMES, lineterminator="\n")
    writer.writeheader()
    for change in changes:
        writer.writerow(ROW | change)
    return out.getvalue()


@pytest.fixture
def receiver() -> Iterator[RecordingReceiver]:
    with recording_receiver() as recording:
        yield recording


def read(path: Path) -> Rows:
    return Rows.joined(list(open_trace(path).chunks()))


def test_empty_values_mean_what_the_documentation_says(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text(
        rows_text(
            {"core_used_ratio": "", "memory_used_bytes": ""},
            {"timestamp_ms": "2000", "memory_quota_bytes": "400", "core_quota_ratio": "0.5"},
        )
    )
    trace, rows = open_trace(path), read(path)
    assert trace.containers[0].pod_uid == pod_uid_of("c", "ns", "p")
    assert rows.memory_quota_bytes.tolist() == [80000, 400]  # empty: the whole card
    assert rows.core_quota_ratio.tolist() == [1.0, 0.5]
    assert np.isnan(rows.memory_used_bytes).tolist() == [True, False]  # use above the quota is legal
    assert np.isnan(rows.core_used_ratio).tolist() == [True, False]


def test_a_pod_ends_one_of_its_intervals_after_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    seen = [(0, "a"), (10, "a"), (10, "b"), (40, "a"), (40, "b"), (50, "a"), (90, "late")]
    path.write_text(rows_text(*({"timestamp_ms": str(t), "pod": pod} for t, pod in seen)))
    trace = open_trace(path)
    ends = {c.pod: int(end) for c, end in zip(trace.containers, trace.end_ms, strict=True)}
    # a is seen every 10 (its gap 10-40 is a gap), b every 30; late only once, so the shortest interval of all counts
    assert ends == {"a": 60, "b": 70, "late": 100}


@pytest.mark.parametrize("name", ["fleet.csv", "fleet.csv.gz", "fleet.parquet"])
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    plain = tmp_path / "plain.csv"
    changes = [
        {"timestamp_ms": str(1000 * (i // 3)), "pod": f"p{i % 3}", "memory_used_bytes": str(i)} for i in range(90)
    ]
    plain.write_text(rows_text(*changes))
    path = tmp_path / name
    if name.endswith(".parquet"):
        pa.parquet.write_table(pa.csv.read_csv(plain), path, row_group_size=7)
    else:
        path.write_bytes(gzip.compress(plain.read_bytes()) if name.endswith(".gz") else plain.read_bytes())
    rows = read(path)
    assert rows.timestamp_ms.tolist() == [1000 * (i // 3) for i in range(90)]
    assert rows.container.tolist() == [i % 3 for i in range(90)]
    assert rows.memory_used_bytes.tolist() == list(range(90))


GOOD = {"timestamp_ms": "1000"}
NEXT = {"timestamp_ms": "2000"}
BAD_INPUTS = {
    "time is no number": ([GOOD, NEXT | {"timestamp_ms": "2026-01-05"}], "row 2, column timestamp_ms: '2026-01-05'"),
    "time is empty": ([GOOD, NEXT | {"timestamp_ms": ""}], "row 2, column timestamp_ms"),
    "time is negative": ([{"timestamp_ms": "-1"}], "row 1, column timestamp_ms: -1 is negative"),
    "negative bytes": ([GOOD, NEXT | {"memory_used_bytes": "-5"}], "row 2, column memory_used_bytes: -5 is negative"),
    "bytes are a word": ([GOOD | {"memory_used_bytes": "3GiB"}], "row 1, column memory_used_bytes: '3GiB' is not a"),
    "bytes are NaN": ([GOOD | {"memory_used_bytes": "NaN"}], "row 1, column memory_used_bytes: nan is not a finite"),
    "card without memory": ([GOOD | {"gpu_memory_total_bytes": "0"}], "row 1, column gpu_memory_total_bytes"),
    "card memory is empty": ([GOOD | {"gpu_memory_total_bytes": ""}], "row 1, column gpu_memory_total_bytes: is empty"),
    "quota in percent": ([GOOD | {"core_quota_ratio": "50"}], "row 1, column core_quota_ratio: 50 is above 1 card"),
    "compute in percent": ([GOOD | {"core_used_ratio": "50"}], "row 1, column core_used_ratio: 50 is above 1 card"),
    "a hair above the card": ([GOOD | {"core_used_ratio": "1.0001"}], "column core_used_ratio: 1.0001 is above 1 card"),
    "compute is nan": ([GOOD, NEXT | {"core_used_ratio": "nan"}], "row 2, column core_used_ratio: nan is not a finite"),
    "compute is inf": ([GOOD | {"core_used_ratio": "inf"}], "row 1, column core_used_ratio: inf is not a finite"),
    "no memory quota": ([GOOD, NEXT | {"memory_quota_bytes": "0"}], "row 2, column memory_quota_bytes: 0 is no quota"),
    "no core quota": ([GOOD, NEXT | {"core_quota_ratio": "-0.0"}], "row 2, column core_quota_ratio: 0 is no quota"),
    "unknown priority": ([GOOD, NEXT | {"priority": "2"}], "row 2, column priority: '2' is neither 0 (high) nor 1"),
    "priority as a word": ([GOOD | {"priority": "high"}], "row 1, column priority: 'high' is neither"),
    "microseconds": (
        [GOOD, NEXT | {"timestamp_ms": "1767571200000000"}],
        "row 2, column timestamp_ms: 1767571200000000",
    ),
    "no namespace": ([GOOD, NEXT | {"namespace": ""}], "row 2, column namespace: is empty"),
    "not sorted": ([NEXT, GOOD], "row 2, column timestamp_ms: 1000 comes after 2000"),
    "repeated row": ([GOOD, GOOD | {"memory_used_bytes": "7"}], "row 2, column timestamp_ms: repeats an earlier row"),
    "repeated under another tenant": ([GOOD, GOOD | {"tenant": "u"}], "row 2, column timestamp_ms: repeats"),
}


def test_values_at_the_edge_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    edge = {
        "memory_quota_bytes": "80001",
        "memory_used_bytes": "90000",
        "core_quota_ratio": "1",
        "core_used_ratio": "1",
    }
    zero = {"timestamp_ms": "2000", "core_used_ratio": "-0.0", "memory_used_bytes": "-0", "priority": "1"}
    path.write_text(rows_text(edge, zero, {"timestamp_ms": "3000", "priority": ""}))
    rows = read(path)
    assert rows.memory_quota_bytes.tolist() == [80001, 80000, 80000]
    assert rows.memory_used_bytes.tolist() == [90000, 0, 500]
    assert rows.core_used_ratio.tolist() == [1, 0, 0.25]
    assert not np.signbit(rows.core_used_ratio).any()  # minus zero is zero
    assert not np.signbit(rows.memory_used_bytes).any()


def check_refused(path: Path, expected: str, *, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The replay of a file ends with code 1 and one line on stderr that names the file and says what is expected."""
    with pytest.raises(SystemExit) as ended:
        run(app, ["replay", "--trace", str(path), "--remote-write", url])
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.err.count("\n") == 1
    assert str(path) in shown.err
    assert expected in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_values_are_named_and_nothing_is_sent(case, tmp_path, receiver, capsys) -> None:
    changes, expected = BAD_INPUTS[case]
    path = tmp_path / "fleet.csv"
    path.write_text(rows_text(*changes))
    check_refused(path, expected, url=receiver.url, capsys=capsys)
    assert receiver.posts == []


@pytest.mark.parametrize(
    ("before", "row"),
    [([], 1), ([GOOD, NEXT], 3), ([GOOD, NEXT | {"tenant": "two\nlines"}], 3)],
)
def test_text_that_is_not_utf_8_is_named_by_row_and_column(before, row, tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.csv"
    text = rows_text(*before, {"timestamp_ms": "9000", "workload": "caf\xe9"})
    path.write_bytes(text.encode("latin-1"))
    check_refused(path, f"row {row}, column workload: b'caf\\xe9' is not UTF-8", url=receiver.url, capsys=capsys)
    assert receiver.posts == []


def test_text_far_inside_that_is_not_utf_8_is_counted_from_the_first_row(tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.csv"
    rows = [{"timestamp_ms": str(i)} for i in range(70_000)]
    rows[64_320] |= {"pod": "\xfc"}
    path.write_bytes(rows_text(*rows).encode("latin-1"))
    assert path.stat().st_size > 4 << 20  # more than one block
    check_refused(path, "row 64321, column pod: b'\\xfc' is not UTF-8", url=receiver.url, capsys=capsys)


def test_a_header_that_is_not_utf_8_is_one_line(tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.csv"
    path.write_bytes(rows_text(GOOD).encode().replace(b"tenant", b"ten\xe4nt"))
    check_refused(path, "the header is not UTF-8", url=receiver.url, capsys=capsys)


def write_times(path: Path, times: pa.Array) -> None:
    """A Parquet trace of as many rows as there are times, of whatever type they are."""
    plain = path.with_suffix(".csv")
    plain.write_text(rows_text(*({"timestamp_ms": str(number)} for number in range(len(times)))))
    table = pa.csv.read_csv(plain)
    pa.parquet.write_table(table.set_column(0, "timestamp_ms", times), path)


MILLISECONDS = [1000, 2000]
GOOD_TIMES = {
    "timestamp": pa.array(MILLISECONDS, pa.timestamp("ms")),
    "timestamp with a zone": pa.array(MILLISECONDS, pa.timestamp("ms", "Europe/Berlin")),
    "nanoseconds": pa.array([time * 1_000_000 for time in MILLISECONDS], pa.timestamp("ns")),
    "seconds": pa.array([1, 2], pa.timestamp("s")),
    "text": pa.array(["1000", "2000"]),
    "bytes": pa.array([b"1000", b"2000"]),
    "dictionary of texts": pa.array(["1000", "2000"]).dictionary_encode(),
    "float": pa.array([1000.0, 2000.0]),
    "decimal": pa.array(MILLISECONDS).cast(pa.decimal128(21, 2)),
}
BAD_TIMES = {
    "text": (pa.array(["1000", "2026-01-05"]), "row 2, column timestamp_ms: '2026-01-05' is not a whole number"),
    "bytes": (pa.array([b"1000", b"\xff"]), "row 2, column timestamp_ms: b'\\xff' is not UTF-8 text"),
    "parts of a millisecond": (
        pa.array([1_000_000_000, 2_000_000_001], pa.timestamp("ns")),
        "row 2, column timestamp_ms: 1970-01-01 00:00:02.000000001 is not a whole number of milliseconds",
    ),
    "fraction": (pa.array([1000.0, 2000.5]), "row 2, column timestamp_ms: 2000.5 is not a whole number"),
    "date": (pa.array([1, 2], pa.date32()), "column timestamp_ms: type date32[day] is not"),
    "duration": (pa.array(MILLISECONDS, pa.duration("ms")), "column timestamp_ms: type duration[ms] is not"),
    "time of day": (pa.array(MILLISECONDS, pa.time32("ms")), "column timestamp_ms: type time32[ms] is not"),
    "true": (pa.array([False, True]), "column timestamp_ms: type bool is not"),
    "nothing": (pa.array([1000, None]), "row 2, column timestamp_ms: is empty"),
}


@pytest.mark.parametrize("case", GOOD_TIMES)
def test_times_in_parquet_are_read_whatever_their_type(case: str, tmp_path: Path) -> None:
    write_times(tmp_path / "fleet.parquet", GOOD_TIMES[case])
    assert read(tmp_path / "fleet.parquet").timestamp_ms.tolist() == MILLISECONDS


@pytest.mark.parametrize("case", BAD_TIMES)
def test_bad_times_in_parquet_are_one_line(case, tmp_path, receiver, capsys) -> None:
    times, expected = BAD_TIMES[case]
    write_times(tmp_path / "fleet.parquet", times)
    check_refused(tmp_path / "fleet.parquet", expected, url=receiver.url, capsys=capsys)


def test_use_that_is_no_number_in_parquet_is_one_line(tmp_path, receiver, capsys) -> None:
    write_times(tmp_path / "fleet.parquet", GOOD_TIMES["float"])
    table = pa.parquet.read_table(tmp_path / "fleet.parquet")
    place = table.schema.get_field_index("core_used_ratio")
    path = tmp_path / "true.parquet"
    pa.parquet.write_table(table.set_column(place, "core_used_ratio", pa.array([True, False])), path)
    check_refused(path, "column core_used_ratio: type bool is not a number", url=receiver.url, capsys=capsys)


LAST_COLUMN_CUT = rows_text(GOOD).replace(",core_used_ratio", "").replace(",0.25", "")
BAD_FILES = {
    "missing column": ("fleet.csv", LAST_COLUMN_CUT, "column core_used_ratio is missing"),
    "unknown column": ("fleet.csv", rows_text(GOOD).replace("core_used", "cpu_used"), "column 'cpu_used_ratio' is unk"),
    "column twice": ("fleet.csv", rows_text(GOOD).replace("pod_uid", "pod"), "column pod stands twice"),
    "short row": ("fleet.csv", rows_text(GOOD, NEXT) + "1,2,3\n", "row 3: 3 values where the header has 18"),
    "no rows": ("fleet.csv", rows_text(), "has no rows"),
    "empty file": ("fleet.csv", "", "cannot be read"),
    "not gzip": ("fleet.csv.gz", rows_text(GOOD), "cannot be read"),
    "not parquet": ("fleet.parquet", rows_text(GOOD), "cannot be read"),
}


@pytest.mark.parametrize("name", ["none.csv", "none.csv.gz", "none.parquet", "."])
def test_a_file_that_cannot_be_opened_is_one_line(name, tmp_path, receiver, capsys) -> None:
    expected = "No such file or directory" if name != "." else "is a directory"
    check_refused(tmp_path / name, expected, url=receiver.url, capsys=capsys)


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named_and_nothing_is_sent(case, tmp_path, receiver, capsys) -> None:
    name, text, expected = BAD_FILES[case]
    (tmp_path / name).write_text(text)
    check_refused(tmp_path / name, expected, url=receiver.url, capsys=capsys)
    assert receiver.posts == []


def test_truncated_gzip_sends_nothing(tmp_path, receiver, capsys) -> None:
    """The broken end is far behind the first block: it has to be found before the first sample leaves."""
    path = tmp_path / "fleet.csv.gz"
    text = rows_text(*({"timestamp_ms": str(i), "memory_used_bytes": str(i * 7919 % 10007)} for i in range(60_000)))
    packed = gzip.compress(text.encode())
    path.write_bytes(packed[: len(packed) * 9 // 10])
    whole = zlib.decompressobj(31).decompress(path.read_bytes()).count(b"\n") - 1
    check_refused(path, f"cannot be read after row {whole}: Truncated", url=receiver.url, capsys=capsys)
    assert receiver.posts == []


@pytest.mark.parametrize(("rows_before", "expected"), [(0, "at row 1"), (1, "after row 1"), (3, "after row 3")])
def test_gzip_truncated_within_the_first_block_names_a_row(rows_before, expected, tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.csv.gz"
    text = rows_text(*({"timestamp_ms": str(number), "tenant": "two\nlines"} for number in range(rows_before)))
    packer = zlib.compressobj(wbits=31)
    path.write_bytes(packer.compress(text.encode() + b"1000,c,n") + packer.flush(zlib.Z_SYNC_FLUSH))
    check_refused(path, f"cannot be read {expected}: Truncated", url=receiver.url, capsys=capsys)


def test_bad_row_far_inside_is_counted_from_the_first_row(tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.csv"
    changes = [{"timestamp_ms": str(i)} for i in range(70_000)]
    changes[64_320] |= {"core_used_ratio": "-0.5"}
    path.write_text(rows_text(*changes))
    assert path.stat().st_size > 4 << 20  # more than one block
    check_refused(path, "row 64321, column core_used_ratio: -0.5 is negative", url=receiver.url, capsys=capsys)
    assert receiver.posts == []


def test_repeat_across_two_batches_is_found(tmp_path, receiver, capsys) -> None:
    path = tmp_path / "fleet.parquet"
    plain = tmp_path / "plain.csv"
    plain.write_text(rows_text(*({"timestamp_ms": str(i // 2), "pod": f"p{i % 2}"} for i in range(65_536 + 1))))
    table = pa.csv.read_csv(plain)
    twice = pa.concat_tables([table.slice(0, 65_536), table.slice(65_535, 1)])  # the batch ends between the two
    pa.parquet.write_table(twice, path)
    check_refused(path, "row 65537, column timestamp_ms: repeats", url=receiver.url, capsys=capsys)


USAGE_ERRORS = {
    "no source": ["--remote-write", "http://127.0.0.1:1/"],
    "two sources": ["--trace", "x", "--synthetic", "1", "--remote-write", "http://127.0.0.1:1/"],
    "no sink": ["--synthetic", "1"],
    "two sinks": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/", "--listen", "127.0.0.1:0"],
    "speed of zero": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/", "--speed", "0"],
    "speed is a word": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/", "--speed", "fast"],
    "negative seed": ["--synthetic", "-1", "--remote-write", "http://127.0.0.1:1/"],
    "not a URL": ["--synthetic", "1", "--remote-write", "localhost"],
    "not an address": ["--synthetic", "1", "--listen", "9100"],
    "spec of nothing": ["--trace", "x", "--fleet-spec", "y", "--remote-write", "http://127.0.0.1:1/"],
    "user in the URL": ["--synthetic", "1", "--remote-write", "http://user:secret@127.0.0.1:1/"],
    "half an IPv6 address": ["--synthetic", "1", "--remote-write", "http://[::1/"],
    "port of letters": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:http/"],
    "blank in the host": ["--synthetic", "1", "--remote-write", "http://a b/"],
    "blank in the path": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/a b"],
    "path that is not ASCII": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/\xe9"],
    "host name too long": ["--synthetic", "1", "--remote-write", f"http://{'a' * 80}.b/"],
    "negative speed": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/", "--speed", "-1"],
    "seed is a word": ["--synthetic", "x", "--remote-write", "http://127.0.0.1:1/"],
    "spec is not there": ["--synthetic", "1", "--fleet-spec", "none.toml", "--remote-write", "http://127.0.0.1:1/"],
    "spec is a folder": ["--synthetic", "1", "--fleet-spec", ".", "--remote-write", "http://127.0.0.1:1/"],
    "summary of listening": ["--synthetic", "1", "--listen", "127.0.0.1:0", "--summary-file", "s.json"],
    "journal of sending": ["--synthetic", "1", "--remote-write", "http://127.0.0.1:1/", "--journal", "j.jsonl"],
    "no such port": ["--trace", "f.csv", "--listen", "127.0.0.1:65536"],
    "no such host": ["--trace", "f.csv", "--listen", "256.0.0.1:0"],
    "unknown flag": ["--tracee", "x"],
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_usage_errors_are_one_line_and_code_1(case, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text(rows_text(GOOD))
    with pytest.raises(SystemExit) as ended:
        run(app, ["replay", *USAGE_ERRORS[case]])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "secret" not in shown
    assert [file.name for file in tmp_path.iterdir()] == ["f.csv"]


def test_a_taken_port_is_one_line(tmp_path, receiver, capsys) -> None:
    path = tmp_path / "f.csv"
    path.write_text(rows_text(GOOD))
    with pytest.raises(SystemExit) as ended:
        run(app, ["replay", "--trace", str(path), "--listen", f"127.0.0.1:{receiver.port}"])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"error: --listen 127.0.0.1:{receiver.port}: Address already in use" in shown


def test_help_documents_every_column(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(app, ["replay", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [name for name in NAMES if name not in shown] == []
    assert "Exit codes: 0 = everything was taken" in " ".join(shown.split())
