"""``egpu-pipeline report ...`` and ``egpu-pipeline tables``: what is asked of a warehouse, a folder or HiveServer2."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer
from rich.console import Console

from egpu_runtime.contract.process import Failure, with_settings
from pipeline.contract.hive import HiveLimits, is_hive
from pipeline.reports import REPORTS, Answer, Subject, parse_time, report_sql
from pipeline.screen import Form, as_csv, as_json, as_table
from pipeline.settings import PipelineSettings
from pipeline.tables import Warehouse
from pipeline.warehouse_duckdb import report
from pipeline.warehouse_hive import HiveServer

_WIDTH_WITHOUT_TERMINAL: Final = 120
"""Width of a report that is piped where COLUMNS says nothing."""

# By the variable a password is not shown to who lists processes.
AnyWarehouse = Annotated[
    str,
    typer.Option(
        "--warehouse",
        envvar="EGPU_WAREHOUSE",
        help="Folder of the tables, or hive://host:port/database of a HiveServer2.",
    ),
]


def hive_limits(settings: PipelineSettings) -> HiveLimits:
    """Bounds of a session with HiveServer2."""
    return HiveLimits(settings.hive_answer_seconds, settings.hive_query_seconds)


def _ask(warehouse: str, sql: str, settings: PipelineSettings) -> Answer:
    if is_hive(warehouse):
        with HiveServer(warehouse, hive_limits(settings)) as server:
            server.check_versions()
            answer = server.report(sql)
            if not answer.rows:
                server.check_hours()
            return answer
    folder = Path(warehouse)
    Warehouse(folder).check()
    return report(folder, sql)


def _print_report(answer: Answer, form: Form, subject: Subject) -> None:
    if form == "table":
        told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
        console = Console() if told else Console(width=_WIDTH_WITHOUT_TERMINAL)
        with console.capture() as shown:
            console.print(as_table(subject, answer.columns, answer.rows, title=REPORTS[subject].title))
        for line in shown.get().splitlines():
            typer.echo(line.rstrip())
    else:
        write = as_json if form == "json" else as_csv
        typer.echo(write(answer.columns, answer.rows), nl=form == "json")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A report as it was asked for; ``shown`` = only its SELECT."""

    warehouse: str
    sql: str
    form: Form
    shown: bool


def _report_command(subject: Subject) -> Callable[..., None]:
    def asked(
        *,
        warehouse: AnyWarehouse,
        since: Annotated[str | None, typer.Option(help="Windows from this date or time on, UTC.")] = None,
        until: Annotated[str | None, typer.Option(help="Windows before this date or time, UTC.")] = None,
        form: Annotated[Form, typer.Option("--format", help="table, json or csv.")] = "table",
        show_sql: Annotated[bool, typer.Option("--show-sql", help="Print the SELECT instead of its rows.")] = False,
    ) -> _Asked:
        sql = report_sql(
            subject,
            since=parse_time(since, "--since") if since else None,
            until=parse_time(until, "--until") if until else None,
        )
        return _Asked(warehouse, sql, form, show_sql)

    title = REPORTS[subject].title
    asked.__doc__ = f"{title[0].upper()}{title[1:]}."

    @functools.wraps(asked)
    def command(*, settings: PipelineSettings, **given: Any) -> None:
        report_asked = asked(**given)
        if report_asked.shown:
            typer.echo(report_asked.sql)
        else:
            answer = _ask(report_asked.warehouse, report_asked.sql, settings)
            _print_report(answer, report_asked.form, subject)

    return with_settings(PipelineSettings)(command)


def report_commands() -> typer.Typer:
    """The sub-commands of ``report``, one a report."""
    reports = typer.Typer(help="Quota against use, the idle first; what was not observed last.", no_args_is_help=True)
    for subject in get_args(Subject):
        reports.command(subject)(_report_command(subject))
    return reports


@with_settings(PipelineSettings)
def tables_command(
    *,
    hive: Annotated[
        str, typer.Option("--hive", envvar="EGPU_HIVE", help="hive://host:port/database of a HiveServer2.")
    ],
    warehouse: Annotated[str, typer.Option("--warehouse", help="Folder of the tables, or its URI as Hive knows it.")],
    settings: PipelineSettings,
) -> None:
    """Create the tables and the reports' views in Hive over the warehouse folder; registers its partitions."""
    folder = warehouse if ":" in warehouse else str(Path(warehouse).absolute())
    if ":" not in warehouse and not Path(folder).is_dir():
        raise Failure(f"no warehouse folder {folder}")
    with HiveServer(hive, hive_limits(settings)) as server:
        server.ensure_tables(folder)
        for name, count in server.partition_counts().items():
            typer.echo(f"{name}: {count} partitions")
        typer.echo("views: " + ", ".join(report.view for report in REPORTS.values()))
