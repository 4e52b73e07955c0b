"""What a person sees: reports as table, JSON or CSV, and the doctor's one screen. Pure; the caller prints."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from egpu_runtime.contract.units import GIB, MIB, SECOND_MS
from pipeline.hours import SampleCounts

Form = Literal["table", "json", "csv"]

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "cards": ("cluster", "node", "gpu_uuid"),
    "workloads": ("cluster", "namespace", "workload"),
    "tenants": ("tenant",),
    "idle": ("cluster", "namespace", "workload"),
    "hours": ("cluster", "tenant", "day_of_week", "hour_of_day"),
}
"""By report the columns that together name a row, from the widest to the narrowest."""

_ALWAYS_NAMED: Final = frozenset({"node", "gpu_uuid", "namespace", "workload", "tenant", "day_of_week", "hour_of_day"})
_ASIDE: Final = ("workload_kind", "container", "gpu_model")
"""Columns that stand in brackets behind the name, where they differ."""

_FIGURES: Final[Mapping[str, Mapping[str, str]]] = {
    "cards": {
        "memory_total_gib": "total\nGiB",
        "memory_allocated_gib": "given\nGiB",
        "memory_used_gib_max": "used\nmax\nGiB",
        "memory_used_percent": "memory\nused",
        "utilization_percent_mean": "busy\nmean",
        "utilization_percent_p95": "busy\np95",
        "observed_percent": "observed",
    },
    "workloads": {
        "pods": "pods",
        "memory_quota_gib": "memory\nquota\nGiB",
        "memory_used_gib_max": "used\nmax\nGiB",
        "memory_used_percent": "memory\nused",
        "core_quota_percent": "core\nquota",
        "core_used_percent_mean": "core\nused",
        "observed_percent": "observed",
    },
    "tenants": {
        "cards_max": "cards",
        "memory_quota_gib_mean": "memory\nquota\nGiB",
        "memory_used_gib_max": "used\nmax\nGiB",
        "memory_used_percent": "memory\nused",
        "core_quota_cards_mean": "core\nquota\ncards",
        "core_used_cards_mean": "used\nmean\ncards",
        "core_used_percent": "core\nused",
        "observed_percent": "observed",
    },
    "idle": {
        "idle_percent": "idle",
        "memory_quota_gib_mean": "memory\nquota\nGiB",
        "memory_idle_gib_mean": "idle\nGiB",
        "core_quota_cards_mean": "core\nquota\ncards",
        "core_idle_cards_mean": "idle\ncards",
        "observed_percent": "observed",
    },
    "hours": {
        "memory_quota_gib_mean": "memory\nquota\nGiB",
        "memory_used_gib_max": "used\nmax\nGiB",
        "memory_used_percent": "memory\nused",
        "core_quota_cards_mean": "core\nquota\ncards",
        "core_used_cards_mean": "used\nmean\ncards",
        "core_used_percent": "core\nused",
        "observed_percent": "observed",
    },
}
"""By report the figures a table shows and what stands above them, in lines that fit 80 columns; JSON and CSV have all
figures under their own names."""

_HOUR_SECONDS: Final = 3600


def _cell(value: object, column: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f} %" if "percent" in column.split("_") else f"{value:,.1f}"
    return str(value)


def _name(row: Mapping[str, object], parts: Sequence[str], aside: Sequence[str]) -> str:
    name = "/".join(str(row[part]) for part in parts)
    return name + "".join(f" [{row[part]}]" for part in aside if row[part])


def as_table(subject: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> Table:
    """A rich table of a report: one column that names a row, figures to the right of it, ``-`` = not observed. What
    is the same in every row stands once below."""
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    optional = [column for column in (*_NAMES[subject], *_ASIDE) if column in columns and column not in _ALWAYS_NAMED]
    same = [column for column in optional if len({row[column] for row in named}) <= 1]
    parts = [column for column in _NAMES[subject] if column not in same]
    aside = [column for column in _ASIDE if column in columns and column not in same]
    facts = "; ".join(f"{column.replace('_', ' ')} {named[0][column]}" for column in same if named and named[0][column])
    caption = "- = not observed" + (f"; in every row: {facts}" if facts else "")
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    heading = "/".join(part.removeprefix("gpu_") for part in parts)
    table.add_column(Text(heading.replace("/", " / ")), overflow="fold", min_width=9)
    for heading in _FIGURES[subject].values():
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(map(len, heading.split())))
    for row in named:
        # Text, not markup: a name may hold brackets.
        cells = [_cell(row[column], column) for column in _FIGURES[subject]]
        table.add_row(Text(_name(row, parts, aside)), *cells)
    return table


def as_json(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A list of objects; null = not observed."""
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    return msgspec.json.format(msgspec.json.encode(objects), indent=2).decode()


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Header and rows; empty = not observed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class Health:
    """What the doctor looks at. Times in ms UTC, None where there is nothing yet; ``other_log`` = why the log is not
    the one the tables were made from, None when it is; ``read_by_job`` = the Flink job reads it, not we."""

    other_log: str | None
    read_by_job: bool
    lag_records: int
    lag_received_ms: int
    last_hour: str
    hour_count: int
    corrupt_count: int
    corrupt_named: Sequence[str]
    gaps: Sequence[str]
    interval: str
    late_pending: int
    samples: SampleCounts
    attribution: Sequence[tuple[str, int]]
    disk_free_bytes: int
    day_bytes: int


def _disk(health: Health) -> str:
    free = f"{health.disk_free_bytes / GIB:,.1f} GiB left"
    if not health.day_bytes:
        return free
    days = health.disk_free_bytes / health.day_bytes
    return f"{free}, enough for {days:,.0f} days of {health.day_bytes / MIB:,.1f} MiB"


def _unattributed(health: Health, attributed: str) -> str:
    total = sum(count for _, count in health.attribution)
    reasons = [(reason, count) for reason, count in health.attribution if reason != attributed]
    if not total:
        return "no rows yet"
    share = 100 * sum(count for _, count in reasons) / total
    named = "; ".join(f"{reason} {100 * count / total:.1f} %" for reason, count in reasons)
    return f"{share:.1f} % of the last day's rows" + (f" ({named})" if named else "")


def health_lines(health: Health, *, attributed: str) -> list[tuple[str, str]]:
    """(what, finding) for each line of the doctor's screen."""
    lag = f"{health.lag_records} records not read"
    if health.read_by_job:
        lag = "the Flink job reads the log: egpu-pipeline status says how far"
    elif health.other_log is not None:
        lag = f"not known: this is not the log this warehouse was made from ({health.other_log})"
    elif health.lag_records:
        seconds = health.lag_received_ms / SECOND_MS
        lag += f", {seconds / _HOUR_SECONDS:.1f} h" if seconds >= _HOUR_SECONDS else f", {seconds:.0f} s"
    corrupt = str(health.corrupt_count)
    if health.corrupt_named:
        corrupt += " (" + "; ".join(health.corrupt_named[-3:]) + ")"
    samples = health.samples
    dropped = f"{samples.unknown} of unknown series, {samples.invalid} invalid, {samples.stale} stale markers, "
    return [
        ("lag", lag),
        ("last closed hour", f"{health.last_hour} ({health.hour_count} hours)"),
        ("corrupt records", corrupt),
        ("lost records", "; ".join(health.gaps) or "none"),
        ("dropped samples", f"{dropped}{samples.future} in the future (of {samples.read} read)"),
        ("late samples", f"{samples.late} came late, {health.late_pending} waiting, {samples.too_late} too late"),
        ("sample interval", health.interval),
        ("unattributed", _unattributed(health, attributed)),
        ("disk", _disk(health)),
    ]
