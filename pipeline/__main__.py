"""``egpu-pipeline``: run | finalise | report | tables | doctor | submit | status | cancel | savepoint."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from egpu_runtime.contract.process import Failure, command_line, run, with_settings
from pipeline.contract.tables import ATTRIBUTED
from pipeline.doctor import examine
from pipeline.finalise_windows import WindowsOrder, finalise_windows
from pipeline.flink_commands import add_flink_commands
from pipeline.report_commands import report_commands, tables_command
from pipeline.run import Order, merge, run_pipeline
from pipeline.screen import health_lines
from pipeline.settings import PipelineSettings
from pipeline.sources import open_log
from pipeline.work import Summary, Work

app = command_line("Telemetry from the log to tables of quota against use, and reports from them.")

LogFolder = Annotated[
    Path | None, typer.Option("--log", help="Folder of the log that egpu-collector writes; none for a topic.")
]
WarehouseFolder = Annotated[Path, typer.Option("--warehouse", help="Folder of the tables.")]


@contextmanager
def _shown(follow: bool) -> Iterator[Progress | None]:
    """A progress line on a terminal, nothing elsewhere."""
    if follow or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task("log to tables", total=None, now="")
        yield progress


def _one_line(summary: Summary) -> str:
    samples = summary.samples
    return (
        f"hours {summary.hours} (made again {summary.hours_made_again}), rows {summary.rows}, "
        f"samples {samples.read} (distinct {samples.distinct}), late {samples.late}, too late {samples.too_late}, "
        f"records {summary.records}, corrupt {summary.corrupt}, {summary.seconds:.1f} s"
        f"{' (stopped early)' if summary.stopped_early else ''}"
    )


def _check_summary_file(path: Path | None) -> None:
    """Hours of work must not end in a file that cannot be written."""
    if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
        raise Failure(f"cannot write --summary-file {path}")


def _report_done(summary: Summary, summary_file: Path | None) -> None:
    if summary_file is not None:
        summary_file.write_bytes(msgspec.json.encode(summary_fields(summary)))
    typer.echo(_one_line(summary))


def summary_fields(summary: Summary) -> dict[str, float]:
    """The summary as flat JSON fields: counts, ``samples_*`` by what became of them, seconds."""
    fields = msgspec.to_builtins(summary)
    samples = fields.pop("samples")
    return {**fields, **{f"samples_{name}": count for name, count in samples.items()}}


def _stopping() -> threading.Event:
    """Set when the process is told to stop."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


@app.command("run")
@with_settings(PipelineSettings)
def run_command(
    *,
    log: LogFolder = None,
    warehouse: WarehouseFolder,
    follow: Annotated[bool, typer.Option("--follow", help="Go on at the log's end until told to stop.")] = False,
    summary_file: Annotated[Path | None, typer.Option(help="Write the counts as JSON to this file.")] = None,
    settings: PipelineSettings,
) -> None:
    """Read the log into the tables; without --follow to its end, closing every hour that was read."""
    _check_summary_file(summary_file)
    if settings.source == "windows":
        raise Failure("the Flink job reads the log into series windows: finalise --source windows makes tables of them")
    stop = _stopping()
    order = Order(log, warehouse, follow=follow)
    with _shown(follow) as shown:

        def on_batch(work: Work) -> None:
            if shown is not None:
                read = work.summary.records
                now = f"{work.open_counts.read:,} samples, {work.summary.hours} hours"
                left = work.log.records_after(work.position)
                shown.update(shown.task_ids[0], completed=read, total=read + left, now=now)

        summary = run_pipeline(order, settings, stop=stop, progress=on_batch)
    _report_done(summary, summary_file)


@app.command()
@with_settings(PipelineSettings)
def finalise(
    *,
    log: LogFolder = None,
    warehouse: WarehouseFolder,
    hive: Annotated[
        str | None, typer.Option("--hive", help="hive://host:port/database to register partitions with.")
    ] = None,
    summary_file: Annotated[Path | None, typer.Option(help="Write the counts as JSON to this file.")] = None,
    settings: PipelineSettings,
) -> None:
    """Merge samples that came late into the hours they belong to; reads no new records. With --source windows: make
    the hours that the Flink job has committed, and register them with Hive."""
    _check_summary_file(summary_file)
    if settings.source == "windows":
        summary = finalise_windows(WindowsOrder(warehouse, log, hive), settings, stop=_stopping())
    elif hive is not None:
        raise Failure("--hive goes with --source windows; egpu-pipeline tables registers any warehouse")
    else:
        summary = merge(Order(log, warehouse), settings)
    _report_done(summary, summary_file)


app.add_typer(report_commands(), name="report")
app.command("tables")(tables_command)


@app.command("doctor")
@with_settings(PipelineSettings)
def doctor_command(*, log: LogFolder = None, warehouse: WarehouseFolder, settings: PipelineSettings) -> None:
    """One screen: lag, corrupt and lost records, late samples, unattributed share, last closed hour, disk."""
    grid = Table.grid(padding=(0, 2))
    with closing(open_log(log, settings, follow=False, stop=threading.Event())) as source:
        health = examine(source, warehouse, read_by_job=settings.source == "windows")
    for what, finding in health_lines(health, attributed=ATTRIBUTED):
        grid.add_row(what, finding)
    Console().print(grid)


add_flink_commands(app)


def main() -> None:
    """Console script."""
    run(app)


if __name__ == "__main__":
    main()
