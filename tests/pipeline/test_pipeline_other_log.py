"""A warehouse goes on only with the log it was made from; another one is refused, or begun with --accept-gap."""

import json
import shutil
from pathlib import Path

import pytest
from pipeline_fleet import HOUR_MS
from pipeline_log import Sample, append

from collector.contract.record import Position, segment_file_name
from egpu_runtime.contract.process import Failure
from pipeline.frontier import Frontier
from pipeline.source_sqlite import SqliteLog

START_MS = 1_767_225_600_000
RECEIVED_MS = START_MS + 5 * HOUR_MS
REFUSED = "this is not the log this warehouse was made from"


def memory(time_ms: int, value: float) -> Sample:
    labels = {"__name__": "egpu_container_memory_used_bytes", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    return {**labels, "pod": "p", "container": "c"}, time_ms, value


def write(folder: Path, hours: list[tuple[float, float]], identity: str) -> None:
    """One record a sample: (hours after the start, value)."""
    batches = [[memory(START_MS + int(hour * HOUR_MS), value)] for hour, value in hours]
    append(folder / "log", batches, received_ms=RECEIVED_MS, identity=identity)


def replace_log(folder: Path, hours: list[tuple[float, float]], identity: str) -> None:
    shutil.rmtree(folder / "log")
    write(folder, hours, identity)


def checkpoint(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "warehouse/state/checkpoint.json").read_text())
    return found


@pytest.mark.parametrize(
    ("before", "after", "records"),
    [("a" * 32, "b" * 32, 9), ("a" * 32, "", 9), ("a" * 32, "a" * 32, 1), ("", "", 1), ("", "b" * 32, 1)],
    ids=["other identity", "identity gone", "fewer records", "fewer records, no identity", "fewer and older"],
)
@pytest.mark.parametrize("subject", ["run", "finalise", "doctor"])
def test_another_log_is_refused(  # type: ignore[no-untyped-def]  # noqa: PLR0913 - a table of cases
    command, run_log, rows_of, tmp_path: Path, subject: str, before: str, after: str, records: int
) -> None:
    write(tmp_path, [(0, 1.0), (1, 2.0), (2, 3.0)], before)
    run_log(tmp_path)
    rows = rows_of(tmp_path)
    replace_log(tmp_path, [(3 + hour, 9.0) for hour in range(records)], after)
    done = command(subject, "--log", tmp_path / "log", "--warehouse", tmp_path / "warehouse")
    if subject == "doctor":
        assert REFUSED in " ".join(done.stdout.split())
    else:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert done.stderr.startswith(f"error: {REFUSED} (")
        assert "a new warehouse, or --accept-gap" in done.stderr
    assert rows_of(tmp_path) == rows


def test_a_checkpoint_without_identity_adopts_the_logs(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, [(0, 1.0)], "")
    run_log(tmp_path)
    path = tmp_path / "warehouse/state/checkpoint.json"
    place = checkpoint(tmp_path)["position"]["places"][0]  # type: ignore[index]
    older = {"position": place, "closed_until_ms": checkpoint(tmp_path)["closed_until_ms"], "schema_version": 1}
    path.write_text(json.dumps(older))
    batch = [memory(START_MS + HOUR_MS, 2.0)]
    append(tmp_path / "log", [batch], received_ms=RECEIVED_MS, segment=2, identity="a" * 32)
    assert run_log(tmp_path).records == 1
    assert checkpoint(tmp_path)["log_identity"] == "a" * 32
    replace_log(tmp_path, [(hour, 9.0) for hour in range(9)], "b" * 32)
    with pytest.raises(Failure, match=REFUSED):
        run_log(tmp_path)


def test_with_the_gap_accepted_no_hour_is_made_from_two_logs(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, [(0, 1.0), (1, 2.0)], "a" * 32)
    run_log(tmp_path)
    # Late for both old hours, at positions the old log had too; and an hour of its own with a sample that is late.
    replace_log(tmp_path, [(0.2, 9.0), (1.2, 9.0), (4, 5.0), (2, 4.0)], "b" * 32)
    summary = run_log(tmp_path, accept_gap=True, lateness_seconds=0, batch_samples_max=1)
    assert (summary.records, summary.hours_made_again, summary.samples.too_late) == (4, 1, 2)
    usage = [(row["memory_used_bytes_max"], row["sample_count"]) for row in rows_of(tmp_path)["container_usage_5m"]]
    assert usage == [(1.0, 1), (2.0, 1), (4.0, 1), (5.0, 1)]
    write(tmp_path, [(4.1, 7.0)], "b" * 32)
    assert run_log(tmp_path).hours_made_again == 1
    assert "another log begun: its identity is " + "b" * 32 in str(checkpoint(tmp_path)["gaps"])


def test_a_log_replaced_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1.0), (1, 2.0)], "a" * 32)
    log = SqliteLog(tmp_path / "log")
    _, reached = log.read(log.start, 1 << 30)
    replace_log(tmp_path, [(0, 9.0)], "a" * 32)
    with pytest.raises(Failure, match="has become another log: it ends before segment 1 row 2"):
        log.read(reached, 1 << 30)
    replace_log(tmp_path, [(0, 9.0), (1, 9.0), (2, 9.0)], "b" * 32)
    with pytest.raises(Failure, match="has become another log: bbb"):
        log.read(reached, 1 << 30)
    with pytest.raises(Failure, match="has become another log: bbb"):
        list(log.read_between(range(START_MS, START_MS + 1), Frontier((Position(1, 9),)), sample_count_max=1))


def test_segments_of_two_logs_are_refused(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, [(0, 1.0)], "a" * 32)
    shutil.copytree(tmp_path / "log", tmp_path / "second")
    shutil.rmtree(tmp_path / "log")
    write(tmp_path, [(0, 1.0)], "b" * 32)
    (tmp_path / "second" / segment_file_name(1)).rename(tmp_path / "log" / segment_file_name(2))
    with pytest.raises(Failure, match="holds segments of 2 logs"):
        run_log(tmp_path)
