"""What ``egpu-pipeline doctor`` looks at: the log's end, our place in it, the state folder, the tables, the disk."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import SECOND_MS
from pipeline.finalise import HourFacts, LogFound, begun, day_of, other_log, reached_in_log
from pipeline.interval import interval_sentence
from pipeline.reading import Log
from pipeline.screen import Health
from pipeline.tables import Warehouse
from pipeline.warehouse_duckdb import attribution_of_last_day


def _last_full_day(hours: dict[int, HourFacts]) -> int | None:
    """Start of the day before the last one (ms), the last one when there is no other."""
    days = sorted({day_of(hour_ms) for hour_ms in hours})
    return days[-2] if len(days) > 1 else days[-1] if days else None


def _interval(hours: Mapping[int, HourFacts], setting_seconds: float) -> str:
    """Whether samples come as the setting says that hours were last made with (seconds, 0 = not known)."""
    if not setting_seconds:
        return "not known before the next run"
    return interval_sentence(hours, setting_seconds) or f"{setting_seconds:g} s, as set"


def examine(log: Log, warehouse_folder: Path, *, read_by_job: bool = False) -> Health:
    """Look, change nothing; works beside a running pipeline. ``read_by_job`` = it is the Flink job that reads the log.
    Raises Failure where a folder is missing."""
    if not warehouse_folder.is_dir():
        raise Failure(f"no warehouse folder {warehouse_folder}")
    warehouse = Warehouse(warehouse_folder)
    hours = warehouse.hours().finalised
    checkpoint = begun(warehouse.read_checkpoint(), hours, log.start)
    late = warehouse.read_late()
    read = reached_in_log(checkpoint, hours)
    last = max(hours, default=None)
    day = _last_full_day(hours)
    attribution = attribution_of_last_day(warehouse_folder).rows if hours else ()
    return Health(
        other_log=other_log(checkpoint, read, LogFound(log.found_identity(), log.start, log.end_place())),
        read_by_job=read_by_job,
        lag_records=0 if read_by_job else log.records_after(read),
        lag_received_ms=0 if read_by_job else log.lag_ms(read),
        last_hour=f"{datetime.fromtimestamp(last / SECOND_MS, UTC):%Y-%m-%d %H:00} UTC" if last is not None else "none",
        hour_count=len(hours),
        corrupt_count=checkpoint.corrupt_count,
        corrupt_named=checkpoint.corrupt_named,
        gaps=checkpoint.gaps,
        interval=_interval(hours, checkpoint.sample_interval_seconds),
        late_pending=late.count("pending"),
        samples=checkpoint.samples,
        attribution=[(str(reason), int(str(count))) for reason, count in attribution],
        disk_free_bytes=warehouse.disk_free_bytes(),
        day_bytes=warehouse.day_bytes(day) if day is not None else 0,
    )
