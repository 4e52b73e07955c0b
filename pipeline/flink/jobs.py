"""The job on the cluster: started once, from where it ended, upgraded through a savepoint, never by accident twice.

A job is ours by its name. What it runs has a digest, of its SQL and its jar; digest, SQL and parallelism are kept in
the job's global parameters, and checkpoints lie in a folder of the digest. So every question is answered by the cluster
and that folder, and nothing is stored here.
"""

import dataclasses
import io
import zipfile
import zlib
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from egpu_runtime.contract.process import Failure
from pipeline.flink.checkpoints import SAVEPOINTS, newest
from pipeline.flink.rest import ENDED, Checkpoints, FlinkRefused, FlinkRest, Jar, Job, Start

MAIN_CLASS: Final = "egpu.SqlJob"
"""Runs the SQL script that its one argument holds as base64 of UTF-8."""

_DIGEST: Final = "egpu-digest"
_JAR: Final = "egpu-jar"
_SCRIPT: Final = "egpu-script"
_PARALLELISM: Final = "egpu-parallelism"
_NEVER_IDLE: Final = "SET 'table.exec.source.idle-timeout' = '0 s';\n"
_DIGEST_LETTERS: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Which job is ours, by its name, and the address of its checkpoints, as Flink reads it."""

    name: str
    checkpoints: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The job as it should run: SQL script, jar, parallelism."""

    place: Place
    script: str
    jar: bytes
    parallelism: int

    @property
    def jar_digest(self) -> str:
        """Of the files in the jar, so that one built anew from the same classes is the same."""
        with zipfile.ZipFile(io.BytesIO(self.jar)) as archive:
            files = sorted((each.filename, each.CRC, each.file_size) for each in archive.infolist())
        return sha256(repr(files).encode()).hexdigest()[:_DIGEST_LETTERS]

    @property
    def digest(self) -> str:
        """Of the SQL and the jar; the parallelism is not part of what the job means."""
        return sha256(f"{self.script}\0{self.jar_digest}".encode()).hexdigest()[:_DIGEST_LETTERS]


@dataclass(frozen=True, slots=True)
class How:
    """What may happen to a job that runs, and what to start from: ``upgrade`` allows to stop it with a savepoint and go
    on from there, ``fresh`` to drop its state and read the log from its beginning, ``origin`` names the state."""

    upgrade: bool = False
    fresh: bool = False
    origin: str = ""


Done = Literal["unchanged", "started", "upgraded"]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What ``submit`` did; ``origin`` = path of the state it began with, empty for the log's beginning."""

    done: Done
    job_id: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class _Run:
    """One start: what a job needs, whether it is the wanted one or the one before it."""

    script: str
    jar: Jar
    digest: str
    parallelism: int


def read_jar(path: str) -> bytes:
    """The content of the job's jar. Raises Failure with one sentence."""
    if not path:
        raise Failure("name the job's jar with --flink-jar")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read the job's jar {path}: {error.strerror}") from error
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise Failure(f"{path} is no jar")
    return content


def running(rest: FlinkRest, name: str) -> Job | None:
    """Our job if it runs or is being started; several of one name are a Failure."""
    found = [job for job in rest.jobs() if job.name == name and job.state not in ENDED]
    if len(found) > 1:
        ids = ", ".join(job.job_id for job in found)
        raise Failure(f"{len(found)} jobs named {name} run ({ids}): cancel all but one in Flink")
    return found[0] if found else None


def required(rest: FlinkRest, name: str) -> Job:
    """Our job; Failure when none runs."""
    job = running(rest, name)
    if job is None:
        raise Failure(f"no job named {name} runs at {rest.url}")
    return job


def submit(rest: FlinkRest, wanted: Wanted, how: How) -> Submitted:
    """Make the wanted job run. Does nothing when it runs already; raises Failure rather than stop another unasked."""
    job = running(rest, wanted.place.name)
    if job is None:
        origin = "" if how.fresh else how.origin or _retained(wanted, how)
        return Submitted("started", _start_wanted(rest, wanted, origin), origin)
    parameters = rest.parameters(job.job_id)
    as_wanted = parameters.get(_DIGEST) == wanted.digest
    rescaled = parameters.get(_PARALLELISM) != str(wanted.parallelism)
    if as_wanted and not rescaled and not how.fresh and not how.origin:
        return Submitted("unchanged", job.job_id)
    if not (how.upgrade or how.fresh):
        raise Failure(_refusal(job, parameters, wanted))
    if how.fresh:
        rest.cancel(job.job_id)
        return Submitted("upgraded", _start_wanted(rest, wanted, ""))
    return _upgrade(rest, job, wanted, how=how)


def _refusal(job: Job, parameters: Mapping[str, str], wanted: Wanted) -> str:
    """Why submit leaves a running job alone, and what would not."""
    parallelism = parameters.get(_PARALLELISM, "another number")
    if parameters.get(_DIGEST) != wanted.digest:
        what = f"other SQL or another jar ({parameters.get(_DIGEST, 'unknown')}, not {wanted.digest})"
    elif parallelism != str(wanted.parallelism):
        what = f"at parallelism {parallelism}, not {wanted.parallelism}"
    else:
        what = "already, and not from the state that was named"
    return (
        f"job {job.job_id} runs {what}: --upgrade stops it with a savepoint and goes on from there, --fresh starts "
        "anew from the log's beginning"
    )


def _retained(wanted: Wanted, how: How) -> str:
    """Path of the state to resume from, empty where nothing was retained."""
    found = newest(wanted.place.checkpoints)
    if found is None:
        return ""
    if found.digest != wanted.digest and not how.upgrade:
        raise Failure(
            f"the newest checkpoint {found.path} is of other SQL or another jar: --upgrade starts from it, --fresh "
            "from the log's beginning"
        )
    return found.path


def _upgrade(rest: FlinkRest, job: Job, wanted: Wanted, *, how: How) -> Submitted:
    """Stop with a savepoint and go on from it; if the new job does not start from it, the old one does."""
    before = _run_of(rest, job)
    slots = rest.cluster().slots_total
    if slots < wanted.parallelism:
        raise Failure(f"the job would need {wanted.parallelism} slots, the cluster has {slots}")
    # Uploaded first: what is wrong with the jar must not stop a job that runs.
    after = _wanted_run(rest, wanted)
    origin = how.origin
    if rest.state(job.job_id) == "RUNNING":
        savepoint = rest.stop(job.job_id, f"{wanted.place.checkpoints}/{before.digest}/{SAVEPOINTS}", drain=False)
    else:
        rest.cancel(job.job_id)
        savepoint = _retained(wanted, how)
    try:
        return Submitted("upgraded", _start(rest, wanted.place, after, origin=origin or savepoint), origin or savepoint)
    except FlinkRefused as refused:
        _start(rest, wanted.place, before, origin=savepoint)
        raise Failure(
            f"Flink refuses to go on with the new job from {origin or savepoint}: {refused}; the old job runs again "
            "from its savepoint; --fresh starts the new one from the log's beginning"
        ) from refused


def _run_of(rest: FlinkRest, job: Job) -> _Run:
    """The running job as it was started. Raises Failure where it could not be started again."""
    parameters = rest.parameters(job.job_id)
    jar = next((jar for jar in rest.jars() if jar.name == parameters.get(_JAR)), None)
    if jar is None or _SCRIPT not in parameters:
        raise Failure(
            f"job {job.job_id} was not started by submit, or its jar is gone: it could not be restored if the upgrade "
            "failed; --fresh starts anew from the log's beginning"
        )
    script = zlib.decompress(urlsafe_b64decode(parameters[_SCRIPT])).decode()
    return _Run(script, jar, parameters[_DIGEST], int(parameters[_PARALLELISM]))


def _wanted_run(rest: FlinkRest, wanted: Wanted) -> _Run:
    """The wanted job with its jar uploaded; a jar is uploaded once."""
    name = f"egpu-{wanted.jar_digest}.jar"
    jar = next((jar for jar in rest.jars() if jar.name == name), None) or rest.upload(wanted.jar, name)
    return _Run(wanted.script, jar, wanted.digest, wanted.parallelism)


def _start_wanted(rest: FlinkRest, wanted: Wanted, origin: str) -> str:
    try:
        return _start(rest, wanted.place, _wanted_run(rest, wanted), origin=origin)
    except FlinkRefused as refused:
        where = f" from {origin}" if origin else ""
        raise Failure(f"Flink did not start the job{where}: {refused}") from refused


def _start(rest: FlinkRest, place: Place, run: _Run, *, origin: str) -> str:
    """Start a job and wait until it runs; one that fails at once is cancelled. Raises FlinkRefused."""
    configuration = {
        "pipeline.name": place.name,
        "pipeline.global-job-parameters": ",".join(
            f"{name}:{value}"
            for name, value in (
                (_DIGEST, run.digest),
                (_JAR, run.jar.name),
                (_PARALLELISM, str(run.parallelism)),
                (_SCRIPT, urlsafe_b64encode(zlib.compress(run.script.encode(), 9)).decode()),
            )
        ),
        "execution.checkpointing.dir": f"{place.checkpoints}/{run.digest}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    }
    start = Start(MAIN_CLASS, [b64encode(run.script.encode()).decode()], run.parallelism, configuration, origin)
    rest.await_slots(run.parallelism)
    job_id = rest.run(run.jar, start)
    try:
        rest.await_running(job_id)
    except FlinkRefused:
        if rest.state(job_id) not in ENDED:
            rest.cancel(job_id)
        raise
    return job_id


def cancel(rest: FlinkRest, place: Place, *, drain: bool) -> str:
    """End our job; its last checkpoint stays. ``drain`` closes every window first and leaves a savepoint.

    Path of the state that is left, empty where there is none.
    """
    job = required(rest, place.name)
    if drain:
        return _drain(rest, job, place)
    rest.cancel(job.job_id)
    last = rest.checkpoints(job.job_id).last
    return last.path if last else ""


def _drain(rest: FlinkRest, job: Job, place: Place) -> str:
    """Stop, start from there with no idle sources, and stop with every window closed.

    Flink drops the last watermark of a source that it holds to be idle (StatusWatermarkValve, RecordWriterOutput): a
    job whose log has been silent for a while would end with its windows in the savepoint.
    """
    run = _run_of(rest, job)
    folder = _savepoints(rest, job, place)
    savepoint = rest.stop(job.job_id, folder, drain=False)
    awake = dataclasses.replace(run, script=f"{run.script}\n{_NEVER_IDLE}")
    job_id = _start(rest, place, awake, origin=savepoint)
    return rest.stop(job_id, folder, drain=True)


def take_savepoint(rest: FlinkRest, place: Place) -> str:
    """Take a savepoint of our job, which runs on; its path."""
    job = required(rest, place.name)
    return rest.savepoint(job.job_id, _savepoints(rest, job, place))


def _savepoints(rest: FlinkRest, job: Job, place: Place) -> str:
    return f"{place.checkpoints}/{rest.parameters(job.job_id).get(_DIGEST, 'unknown')}/{SAVEPOINTS}"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How our job is: what it runs, its checkpoints, how often it was restarted and why the last time, and how many
    records of the log it has not read yet (None = not told)."""

    job: Job
    state: str
    digest: str
    jar: str
    parallelism: str
    checkpoints: Checkpoints
    restarts: int
    failure: str
    records_behind: int | None


def status(rest: FlinkRest, name: str) -> JobStatus:
    """How our job is; Failure when none runs."""
    job = required(rest, name)
    parameters = rest.parameters(job.job_id)
    return JobStatus(
        job,
        rest.state(job.job_id),
        parameters.get(_DIGEST, ""),
        parameters.get(_JAR, ""),
        parameters.get(_PARALLELISM, ""),
        checkpoints=rest.checkpoints(job.job_id),
        restarts=rest.restarts(job.job_id),
        failure=rest.failure(job.job_id),
        records_behind=rest.records_behind(job.job_id),
    )
