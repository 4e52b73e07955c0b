"""``egpu-advisor``: advice from the tables, and its application. Commands name their exit codes beyond 0 and 1."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from advisor.advice import Evidence
from advisor.contract import Plan
from advisor.explain import backtest_report, explain_workload, matching
from advisor.history import History, Selection
from advisor.plan import first_judged_hour, make_plan
from advisor.recording import Applied, Recorded, partition_of, recorded_changes, recorded_plan
from advisor.report import ReportForm, render
from advisor.report.table import print_plan
from advisor.settings import AdvisorSettings
from advisor.warehouse_duckdb import FolderTables
from advisor.warehouse_hive import HiveTables
from advisor.writeback.git import ApplyRequest, ApplyResult, apply_plan
from egpu_runtime.contract.process import Failure, command_line, run, with_settings
from egpu_runtime.contract.units import HOUR_MS
from pipeline.contract.advice_tables import ALLOCATION_CHANGES, RECOMMENDATIONS, SAVINGS
from pipeline.contract.hive import HiveLimits, is_hive
from pipeline.contract.tables import Table

EXIT_FINDINGS = 2
"""``scan --fail-on N`` found N or more."""

EXIT_NOT_FOUND = 3
"""``apply`` could not find the manifest of something."""

app = command_line(
    "Finds idle quota, workloads that can share cards, and hours to train in; writes the changes to git."
)

_SOURCE_OPTIONS = {
    "warehouse": Annotated[
        str | None,
        # By the variable a password is not shown to who lists processes.
        typer.Option(
            envvar="EGPU_WAREHOUSE", help="Folder of the tables that egpu-pipeline wrote, or hive://host:port/database."
        ),
    ],
    "namespace": Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Only workloads of it; repeatable.")
    ],
    "workload": Annotated[str, typer.Option(help="Only workloads whose name holds a match of this expression.")],
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command's data comes from: the tables, which workloads of them, and whether its result is kept there."""

    warehouse: str | None
    selection: Selection
    record: bool = False

    @contextmanager
    def opened(self, settings: AdvisorSettings) -> Iterator[FolderTables | HiveTables]:
        """The tables: a folder read by DuckDB, or a HiveServer2."""
        with closing(self._tables(settings)) as tables:
            yield tables

    def _tables(self, settings: AdvisorSettings) -> FolderTables | HiveTables:
        if self.warehouse is None:
            raise Failure("give --warehouse, the folder that egpu-pipeline writes, or hive://host:port/database")
        if is_hive(self.warehouse):
            return HiveTables(self.warehouse, HiveLimits(settings.hive_answer_seconds, settings.hive_query_seconds))
        return FolderTables(Path(self.warehouse))

    def evidence(
        self, tables: FolderTables | HiveTables, settings: AdvisorSettings, *, split_ms: int | None = None
    ) -> Evidence:
        """Profiles, and the later data that the split and the rolling origins need."""
        history = History(tables, self.selection)
        fleet, held = history.read_fleet(days_max=settings.history_max_days)
        first_hour = first_judged_hour(fleet.hours, settings, workload_count=len(fleet.keys))
        if split_ms is not None:
            if not fleet.start_ms < split_ms < fleet.start_ms + fleet.hours * HOUR_MS:
                raise Failure("--split lies outside the history that was read")
            first_hour = min(first_hour, (split_ms - fleet.start_ms) // HOUR_MS)
        return Evidence(fleet, history.read_later(fleet, fleet.start_ms + first_hour * HOUR_MS), held)


def with_source(*, recorded: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command ``def command(*, source: Source, ...)``: adds --warehouse, --namespace and --workload.

    ``recorded`` = help of a further option --record, for commands whose result can be kept in the tables. It is off
    unless given: who asks for advice need not be able to write, and a command writes only where it is told to.
    """
    record = {"record": Annotated[bool, typer.Option("--record", help=recorded)]} if recorded else {}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "source"]
        defaults: dict[str, object] = {"warehouse": None, "namespace": None, "workload": "", "record": False}
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=annotation)
            for name, annotation in {**_SOURCE_OPTIONS, **record}.items()
        ]

        @functools.wraps(command)
        def from_source(*, warehouse: str | None = None, workload: str = "", record: bool = False, **given: Any) -> Any:
            selection = Selection(tuple(given.pop("namespace", None) or ()), workload)
            return command(source=Source(warehouse, selection, record), **given)

        from_source.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        return from_source

    return decorate


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}") from error


def _check_writable(tables: FolderTables | HiveTables, *wanted: Table) -> None:
    """A plan of minutes must not end in a table that cannot be written."""
    for table in wanted:
        tables.check_writable(table)


def _record(tables: FolderTables | HiveTables, plan: Plan, recorded: Iterable[Recorded]) -> None:
    for each in recorded:
        tables.record(each.table, partition_of(plan), each.rows)


def _applied(result: ApplyResult) -> tuple[Applied, ...]:
    """What became of every workload of the plan."""
    return (
        *(Applied(commit.workload, "committed", revision=commit.sha) for commit in result.commits),
        *(Applied(workload, "already applied") for workload in result.already_applied),
        *(Applied(each.workload, "refused", each.reason) for each in result.refused),
        *(Applied(each.workload, "not found", each.reason) for each in result.not_found),
    )


@app.command()
@with_settings(AdvisorSettings)
@with_source(recorded="Keep the plan in the tables recommendations and savings.")
def scan(
    *,
    source: Source,
    form: Annotated[ReportForm, typer.Option("--format", help="Form of the plan.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write the plan to this file instead of stdout.")] = None,
    fail_on: Annotated[int | None, typer.Option(min=1, help="Exit 2 if there are so many findings or more.")] = None,
    settings: AdvisorSettings,
) -> int:
    """Make the plan: slices, groups, training hours, refusals. Exits 2 when --fail-on is reached."""
    with source.opened(settings) as tables:
        if source.record:
            _check_writable(tables, RECOMMENDATIONS, SAVINGS)
        plan = make_plan(source.evidence(tables, settings), settings)
        if source.record:
            _record(tables, plan, recorded_plan(plan))
    if form == "table" and output is None:
        print_plan(plan, Console())
    else:
        _write(render(plan, form), output)
    return EXIT_FINDINGS if fail_on is not None and plan.finding_count >= fail_on else 0


@app.command()
@with_settings(AdvisorSettings)
@with_source()
def explain(
    *,
    name: Annotated[str, typer.Argument(metavar="WORKLOAD", help="Its name, or namespace/kind/name/container.")],
    source: Source,
    settings: AdvisorSettings,
) -> None:
    """Say every figure behind the advice for one workload."""
    with source.opened(settings) as tables:
        evidence = source.evidence(tables, settings)
    found = matching(evidence.fleet.keys, name)
    if not found:
        raise Failure(f"no workload is called {name!r}")
    plan = make_plan(evidence, replace(settings, origin_count=0))
    typer.echo("\n".join(explain_workload(plan, evidence.fleet, key, settings=settings) for key in found), nl=False)


@app.command()
@with_settings(AdvisorSettings)
@with_source()
def backtest(
    *,
    source: Source,
    split: Annotated[
        str | None, typer.Option(metavar="DATE", help="Judge from this date or instant (ISO 8601).")
    ] = None,
    settings: AdvisorSettings,
) -> None:
    """Make the plan from the first part of the history and judge it on the rest; then the rolling origins."""
    split_ms = None if split is None else _instant_ms(split, settings)
    with source.opened(settings) as tables:
        evidence = source.evidence(tables, settings, split_ms=split_ms)
    typer.echo(backtest_report(make_plan(evidence, settings, split_ms=split_ms)), nl=False)


def _instant_ms(text: str, settings: AdvisorSettings) -> int:
    """An ISO date or instant as epoch ms; without an offset it is meant in the advisor's time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Failure(f"--split {text!r} is not a date such as 2026-03-01 or 2026-03-01T12:00") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(settings.time_zone))
    return int(moment.timestamp() * 1000)


@app.command()
@with_settings(AdvisorSettings)
@with_source(recorded="Keep what was committed in the table allocation_changes.")
def apply(
    *,
    source: Source,
    manifests: Annotated[Path, typer.Option(help="Folder of manifests in a git checkout.")],
    branch: Annotated[str | None, typer.Option(help="Branch to commit to; default egpu/plan-ID.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run/--no-dry-run", help="Print the diff and change nothing.")] = True,
    settings: AdvisorSettings,
) -> int:
    """Write the plan to manifests on a git branch, one commit a workload.

    Exits 3 if a manifest was not found, or if all that was found had to be refused.
    """
    recorded = source.record and not dry_run
    with source.opened(settings) as tables:
        if recorded:
            _check_writable(tables, ALLOCATION_CHANGES)
        plan = make_plan(source.evidence(tables, settings), settings)
        request = ApplyRequest(
            manifests=manifests,
            branch=branch,
            dialect=settings.dialect,
            dry_run=dry_run,
            change_ratio_min=settings.change_min_ratio,
        )
        result = apply_plan(plan, request)
        typer.echo(result.text, nl=False)
        typer.echo(result.notes, nl=False, err=True)
        if recorded:
            changes = recorded_changes(plan, _applied(result), branch=result.branch, dialect=settings.dialect)
            _record(tables, plan, (changes,))
    done = bool(result.text) or bool(result.already_applied)
    if dry_run and result.text:
        typer.echo(f"plan {plan.plan_id}: nothing was written; --no-dry-run commits to {result.branch}", err=True)
    return EXIT_NOT_FOUND if result.not_found or (result.refused and not done) else 0


def main() -> None:
    """Entry point of ``egpu-advisor``."""
    run(app)


if __name__ == "__main__":
    main()
