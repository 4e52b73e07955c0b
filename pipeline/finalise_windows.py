"""``egpu-pipeline finalise --source windows``: hours that the Flink job has committed, to the final tables and Hive."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from egpu_runtime.contract.process import Failure
from pipeline.contract.hive import HiveLimits
from pipeline.contract.tables import CONTAINER_USAGE, GPU_USAGE, SERIES_WINDOWS, WORKLOAD_PROFILE, Table
from pipeline.interval import interval_sentence
from pipeline.partitions import partition_start_ms, partition_values
from pipeline.reading import ReadingStopped
from pipeline.settings import PipelineSettings
from pipeline.sources import open_log
from pipeline.tables import Warehouse
from pipeline.warehouse_hive import HiveServer
from pipeline.window_files import WindowFiles
from pipeline.window_work import WindowWork, hour_name
from pipeline.work import Summary

_LOG: Final = logging.getLogger("egpu-pipeline")


@dataclass(frozen=True, slots=True)
class WindowsOrder:
    """What to finalise: the warehouse's folder, a log's folder where the log is no topic, and the address of the
    HiveServer2 where partitions are registered, if anywhere."""

    warehouse: Path
    log: Path | None
    hive: str | None


def _starts(server: HiveServer, table: Table, *, by_hour: bool) -> set[int]:
    """Starts (ms) of the partitions that the metastore knows."""
    found = (partition_start_ms(str(name), by_hour=by_hour) for (name,) in server.rows(f"SHOW PARTITIONS {table.name}"))
    return {start_ms for start_ms in found if start_ms is not None}


def register(server: HiveServer, work: WindowWork, windows: frozenset[int]) -> None:
    """Make the metastore's partitions those of the folder: what is missing is added, what retention took is dropped.

    ``windows`` = hours that have series windows. Does again what an earlier run left undone.
    """
    for table, starts, by_hour in (
        (CONTAINER_USAGE, work.hours, True),
        (GPU_USAGE, work.hours, True),
        (WORKLOAD_PROFILE, work.days, False),
        (SERIES_WINDOWS, windows, True),
    ):
        server.check_version(table)
        known = _starts(server, table, by_hour=by_hour)
        old = {start_ms for start_ms in known if starts and start_ms < min(starts)}
        missing = starts - known if table is not SERIES_WINDOWS else frozenset()
        server.add_partitions(table, [partition_values(each, by_hour=by_hour) for each in sorted(missing)])
        server.drop_partitions(table, [partition_values(each, by_hour=by_hour) for each in sorted(old)])


def _register(order: WindowsOrder, settings: PipelineSettings, work: WindowWork, files: WindowFiles) -> str:
    """Register with Hive; why that failed, empty if it did not."""
    if order.hive is None:
        return ""
    try:
        with HiveServer(order.hive, HiveLimits(settings.hive_answer_seconds, settings.hive_query_seconds)) as server:
            register(server, work, frozenset(files.committed()))
    except Failure as failure:
        return f"tables are made and not all registered with Hive: {failure}"
    return ""


def _say_made(work: WindowWork, *, each: bool) -> None:
    """Once a run what is wrong with the interval of samples; with ``each`` a line for every hour made since the last
    call."""
    said = interval_sentence({facts.hour_ms: facts for facts in work.closed}, work.settings.sample_interval_seconds)
    if said and work.summary.hours == len(work.closed):
        _LOG.warning("%s", said)
    for facts in work.closed if each else ():
        _LOG.info("made the hour %s: %d samples", hour_name(facts.hour_ms), facts.sample_count)
    work.closed.clear()


def _round(order: WindowsOrder, work: WindowWork, files: WindowFiles) -> list[str]:
    """Make what there is to make and commit; why something is left undone."""
    work.make()
    work.retire()
    work.write_state()
    left = _register(order, work.settings, work, files)
    return [why for why in (work.waiting, left) if why]


@contextmanager
def _working(order: WindowsOrder, settings: PipelineSettings, stop: threading.Event) -> Iterator[WindowWork]:
    warehouse = Warehouse(order.warehouse)
    warehouse.hold()
    try:
        with closing(open_log(order.log, settings, follow=False, stop=stop)) as log:
            yield WindowWork(log, warehouse, settings=settings, clock=time.monotonic)
    finally:
        warehouse.close()


def finalise_windows(order: WindowsOrder, settings: PipelineSettings, *, stop: threading.Event) -> Summary:
    """Finalise the committed hours once, or with ``finalise_every_seconds`` until told to stop.

    Raises Failure where a person can act, after all else was done.
    """
    started = time.monotonic()
    files = WindowFiles(order.warehouse)
    left: list[str] = []
    with _working(order, settings, stop) as work, suppress(ReadingStopped):
        work.attach(files, stop.is_set)
        while True:
            left = _round(order, work, files)
            _say_made(work, each=settings.finalise_every_seconds > 0)
            if not settings.finalise_every_seconds or stop.is_set():
                break
            for why in left:
                _LOG.warning("%s", why)
            left = []
            if stop.wait(settings.finalise_every_seconds):
                break
    work.summary.seconds = time.monotonic() - started
    work.summary.stopped_early = stop.is_set() and not settings.finalise_every_seconds
    if left:
        raise Failure("; ".join(left))
    return work.summary
