"""The life of a job on a real cluster: started once, resumed, rescaled, upgraded or not, ended."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_set import Engines

from egpu_runtime.contract.process import Failure
from pipeline.flink import jobs
from pipeline.flink.jobs import How, Place, Wanted, submit
from pipeline.flink.rest import ENDED, FlinkRest

pytestmark = pytest.mark.end_to_end

SCRIPT = """
SET 'execution.checkpointing.interval' = '1 s';
CREATE TABLE s (k INT, v DOUBLE, ts AS LOCALTIMESTAMP, WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'rows-per-second' = '10', 'fields.k.min' = '0', 'fields.k.max' = '3');
CREATE TABLE o (w TIMESTAMP(3), k INT, v DOUBLE) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT window_start, k, MAX(v)
FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k;
"""


@pytest.fixture(scope="module")
def rest(engines: Engines) -> FlinkRest:
    return FlinkRest(engines.state["flink"]["rest"])


@pytest.fixture
def wanted(engines: Engines, rest: FlinkRest, tmp_path: Path) -> Iterator[Wanted]:
    """A job that does not run yet; whatever runs of it at the end is cancelled."""
    name = f"jobs-{tmp_path.name}-{time.time_ns()}"
    jar = jobs.read_jar(engines.state["flink_jar"])
    yield Wanted(Place(name, f"file://{tmp_path}/checkpoints"), SCRIPT, jar, 1)
    for job in rest.jobs():
        if job.name == name and job.state not in ENDED:
            rest.cancel(job.job_id)


def with_sql(wanted: Wanted, old: str, new: str) -> Wanted:
    assert old in wanted.script
    return dataclasses.replace(wanted, script=wanted.script.replace(old, new))


def await_checkpoint(rest: FlinkRest, job_id: str) -> str:
    deadline = time.monotonic() + 30
    while (last := rest.checkpoints(job_id).last) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return last.path.removeprefix("file:")


def test_submit_starts_once_and_resumes_from_the_newest_checkpoint(rest: FlinkRest, wanted: Wanted) -> None:
    with pytest.raises(Failure, match=f"no job named {wanted.place.name} runs"):
        jobs.status(rest, wanted.place.name)
    first = submit(rest, wanted, How())
    assert (first.done, first.origin) == ("started", "")
    uploaded = len(rest.jars())
    again = submit(rest, wanted, How())
    assert (again.done, again.job_id) == ("unchanged", first.job_id)
    with pytest.raises(Failure, match="runs already, and not from the state that was named: --upgrade"):
        submit(rest, wanted, How(origin="file:///elsewhere"))
    await_checkpoint(rest, first.job_id)
    kept = jobs.cancel(rest, wanted.place, drain=False)
    resumed = submit(rest, wanted, How())
    assert resumed.origin.removeprefix("file://") == kept.removeprefix("file:")
    assert "/chk-" in kept
    assert len(rest.jars()) == uploaded, "the jar was uploaded twice"
    found = jobs.status(rest, wanted.place.name)
    assert (found.state, found.digest, found.parallelism) == ("RUNNING", wanted.digest, "1")
    jobs.cancel(rest, wanted.place, drain=False)
    anew = submit(rest, wanted, How(fresh=True))
    assert anew.origin == ""


def test_another_parallelism_or_other_sql_goes_on_from_a_savepoint(rest: FlinkRest, wanted: Wanted) -> None:
    first = submit(rest, wanted, How())
    wider = dataclasses.replace(wanted, parallelism=2)
    with pytest.raises(Failure, match="runs at parallelism 1, not 2: --upgrade"):
        submit(rest, wider, How())
    assert jobs.required(rest, wanted.place.name).job_id == first.job_id
    rescaled = submit(rest, wider, How(upgrade=True))
    assert "/savepoints/savepoint-" in rescaled.origin
    assert jobs.status(rest, wanted.place.name).parallelism == "2"
    other = with_sql(wider, "MAX(v)", "MIN(v)")
    with pytest.raises(Failure, match=f"runs other SQL or another jar .{wanted.digest}, not {other.digest}"):
        submit(rest, other, How())
    upgraded = submit(rest, other, How(upgrade=True))
    assert "/savepoints/savepoint-" in upgraded.origin
    assert jobs.status(rest, wanted.place.name).digest == other.digest
    jobs.cancel(rest, wanted.place, drain=False)
    with pytest.raises(Failure, match=r"is of other SQL or another jar: --upgrade starts from it, --fresh"):
        submit(rest, wider, How())


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("MAX(v)", "AVG(v)", "StateMigrationException"),
        ("INTO o", "INTO nowhere", "Cannot find table"),
        ("SELECT window_start", "SELEKT window_start", "Non-query expression"),
    ],
)
def test_a_refused_upgrade_leaves_the_old_job_running(
    rest: FlinkRest, wanted: Wanted, old: str, new: str, cause: str
) -> None:
    submit(rest, wanted, How())
    with pytest.raises(Failure, match=f"Flink refuses to go on.*{cause}.*the old job runs again") as failure:
        submit(rest, with_sql(wanted, old, new), How(upgrade=True))
    assert "\n" not in str(failure.value)
    found = jobs.status(rest, wanted.place.name)
    assert (found.state, found.digest) == ("RUNNING", wanted.digest)


def test_a_drained_job_leaves_a_savepoint_to_go_on_from(rest: FlinkRest, wanted: Wanted) -> None:
    submit(rest, wanted, How())
    taken = jobs.take_savepoint(rest, wanted.place)
    left = jobs.cancel(rest, wanted.place, drain=True)
    assert taken != left
    resumed = submit(rest, wanted, How())
    assert resumed.origin.removeprefix("file://") == left.removeprefix("file:")
    jobs.cancel(rest, wanted.place, drain=False)
    with pytest.raises(Failure, match="Flink did not start the job from file:///nowhere: FileNotFoundException"):
        submit(rest, wanted, How(origin="file:///nowhere"))


def test_more_slots_than_there_are(rest: FlinkRest, wanted: Wanted) -> None:
    slots = rest.cluster().slots_total
    with pytest.raises(Failure, match=f"the job needs {slots + 1} slots, the cluster has {slots} on 1 TaskManagers"):
        submit(rest, dataclasses.replace(wanted, parallelism=slots + 1), How())
    first = submit(rest, wanted, How())
    with pytest.raises(Failure, match=f"the job would need {slots + 1} slots, the cluster has {slots}"):
        submit(rest, dataclasses.replace(wanted, parallelism=slots + 1), How(upgrade=True))
    assert jobs.required(rest, wanted.place.name).job_id == first.job_id


def test_a_jar_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "egpu.jar").write_text("no jar")
    for path, message in (
        ("", "name the job's jar"),
        ("nowhere", "cannot read"),
        (f"{tmp_path}/egpu.jar", "is no jar"),
    ):
        with pytest.raises(Failure, match=message):
            jobs.read_jar(path)
