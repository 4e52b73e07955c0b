"""``egpu-pipeline submit | status | cancel | savepoint``: the job at cluster size, through Flink's own REST API."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from egpu_runtime.contract.process import Failure, with_settings
from egpu_runtime.contract.units import SECOND_MS
from pipeline.dead_letters import ensure_dead_letters
from pipeline.flink import jobs
from pipeline.flink.rest import FlinkRest
from pipeline.flink.sql import DEAD_LETTER_SUFFIX, JobRules, job_script
from pipeline.settings import PipelineSettings
from pipeline.topic_record import Topic

_CHECKPOINT_KEYS: Final = ("execution.checkpointing.dir", "state.checkpoints.dir")
"""Where a cluster keeps checkpoints: the key of Flink 1.20, and the one before."""


def _place(rest: FlinkRest, settings: PipelineSettings) -> jobs.Place:
    """The job and the address of its checkpoints: as set, else a folder of its name where the cluster keeps its own."""
    if settings.flink_checkpoint_directory:
        return jobs.Place(settings.flink_job_name, settings.flink_checkpoint_directory.rstrip("/"))
    configuration = rest.configuration()
    address = next((configuration[key] for key in _CHECKPOINT_KEYS if configuration.get(key)), "")
    if not address:
        raise Failure("the cluster has no folder for checkpoints: name one with --flink-checkpoint-directory")
    return jobs.Place(settings.flink_job_name, f"{address.rstrip('/')}/{settings.flink_job_name}")


def job_rules(settings: PipelineSettings) -> JobRules:
    """What the job's SQL is generated from."""
    if not settings.hive_conf_directory:
        raise Failure("name the folder of hive-site.xml, as Flink sees it, with --hive-conf-directory")
    return JobRules(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        hive_conf_dir=settings.hive_conf_directory,
        hive_database=settings.hive_database,
        topic=settings.kafka_topic,
        window_seconds=settings.window_seconds,
        lateness_seconds=settings.lateness_seconds,
        idle_seconds=settings.flink_idle_seconds,
        checkpoint_seconds=settings.flink_checkpoint_seconds,
        kafka_properties=settings.flink_kafka_properties,
        flink_settings={"pipeline.name": settings.flink_job_name, **settings.flink_settings},
    )


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M:%S} UTC"


@with_settings(PipelineSettings)
def submit(
    *,
    settings: PipelineSettings,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="A job with other SQL or parallelism goes on as this one, by a savepoint.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Drop the job's state and read the log from its beginning.")
    ] = False,
    origin: Annotated[str, typer.Option("--from", help="Checkpoint or savepoint to start from.")] = "",
) -> None:
    """Make the job run: from its newest retained checkpoint, else from the log's beginning; nothing when it runs."""
    if fresh and origin:
        raise Failure("--fresh and --from exclude each other")
    script, jar = job_script(job_rules(settings)), jobs.read_jar(settings.flink_jar)
    rest = FlinkRest(settings.flink_rest_url)
    wanted = jobs.Wanted(_place(rest, settings), script, jar, settings.flink_parallelism)
    dead_letters = f"{settings.kafka_topic}{DEAD_LETTER_SUFFIX}"
    ensure_dead_letters(Topic(settings.kafka_bootstrap_servers, dead_letters, settings.kafka_properties))
    done = jobs.submit(rest, wanted, jobs.How(upgrade=upgrade, fresh=fresh, origin=origin))
    if done.done == "unchanged":
        typer.echo(f"job {done.job_id} runs already")
    else:
        typer.echo(f"job {done.job_id} {done.done} from {done.origin or 'the beginning of the log'}")


@with_settings(PipelineSettings)
def status(*, settings: PipelineSettings) -> None:
    """One screen: state, what runs, last checkpoint, restarts, what of the log is not read yet."""
    found = jobs.status(FlinkRest(settings.flink_rest_url), settings.flink_job_name)
    kept = found.checkpoints
    last = "none yet"
    if kept.last:
        last = f"{_time(kept.last.time_ms)}, {kept.last.state_bytes:,} bytes in {kept.last.duration_ms} ms"
    behind = "not told yet" if found.records_behind is None else f"{found.records_behind:,} records"
    lines = (
        ("job", f"{found.job.name} {found.job.job_id}"),
        ("state", f"{found.state}, started {_time(found.job.start_ms)}"),
        ("runs", f"SQL {found.digest or 'unknown'}, jar {found.jar or 'unknown'}, parallelism {found.parallelism}"),
        ("checkpoint", last),
        ("at", kept.last.path if kept.last else "-"),
        ("checkpoints", f"{kept.completed} completed, {kept.failed} failed"),
        ("restarts", f"{found.restarts}{f', the last: {found.failure}' if found.failure else ''}"),
        ("behind", behind),
    )
    for what, finding in lines:
        typer.echo(f"{what:<12}{finding}")


@with_settings(PipelineSettings)
def cancel(
    *,
    settings: PipelineSettings,
    drain: Annotated[
        bool, typer.Option("--drain", help="Close every window and commit every hour first: for the end of a cluster.")
    ] = False,
) -> None:
    """End the job; what it read up to its last checkpoint is kept, and submit goes on from there."""
    rest = FlinkRest(settings.flink_rest_url)
    left = jobs.cancel(rest, _place(rest, settings), drain=drain)
    typer.echo(f"job {settings.flink_job_name} ended, {left or 'without a checkpoint'}")


@with_settings(PipelineSettings)
def savepoint(*, settings: PipelineSettings) -> None:
    """Take a savepoint of the job, which runs on; prints its path."""
    rest = FlinkRest(settings.flink_rest_url)
    typer.echo(jobs.take_savepoint(rest, _place(rest, settings)))


def add_flink_commands(app: typer.Typer) -> None:
    """Put the four commands on the command line of the pipeline."""
    for command in (submit, status, cancel, savepoint):
        app.command()(command)
