"""What a person sees: reports as table, JSON or CSV, and the doctor's one screen. Pure; the caller prints."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from rich.table import Table

from egpu_runtime.contract.units import GIB, MIB, SECOND_MS
from pipeline.hours import SampleCounts

Form = Literal["table", "json", "csv"]

_UNITS: Final = {"gib": "GiB", "percent": "%"}
_HOUR_SECONDS: Final = 3600


def _unit(column: str) -> str:
    return next((shown for word, shown in _UNITS.items() if word in column.split("_")), "")


def _title(column: str) -> str:
    words = [word for word in column.split("_") if word not in _UNITS]
    text = " ".join(words).replace("gpu", "GPU")
    return f"{text} {_unit(column)}".strip()


def _cell(value: object, column: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f} %" if _unit(column) == "%" else f"{value:,.1f}"
    return str(value)


def as_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> Table:
    """A rich table; numbers to the right, ``-`` = not observed."""
    table = Table(title=title, title_justify="left", caption="- = not observed", caption_justify="left")
    for index, column in enumerate(columns):
        number = any(isinstance(row[index], int | float) for row in rows)
        table.add_column(_title(column).removesuffix(" %"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value, column) for value, column in zip(row, columns, strict=True)))
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
    the one the tables were made from, None when it is."""

    other_log: str | None
    lag_records: int
    lag_received_ms: int
    last_hour: str
    hour_count: int
    corrupt_count: int
    corrupt_named: Sequence[str]
    gaps: Sequence[str]
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
    if health.other_log is not None:
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
        ("unattributed", _unattributed(health, attributed)),
        ("disk", _disk(health)),
    ]
