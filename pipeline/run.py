"""The run from log to tables: feed the work from the log, to its end or until told to stop, and commit."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import SECOND_MS
from pipeline.interval import interval_sentence
from pipeline.read_ahead import DecodingThread, Reading
from pipeline.reading import Log, LogGap, ReadingStopped
from pipeline.settings import PipelineSettings
from pipeline.sources import open_log
from pipeline.tables import Warehouse
from pipeline.work import Summary, Work

_LOG: Final = logging.getLogger("egpu-pipeline")


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: the log's folder (None for a topic) and the warehouse's, and whether to follow the log."""

    log: Path | None
    warehouse: Path
    follow: bool = False


Progress = Callable[[Work], None]


def _say_closed(work: Work, *, follow: bool) -> None:
    """Of the hours closed since the last call: once a run, whether samples come as often as was set; with ``follow`` a
    line each, for a run to the log's end has its summary."""
    said = interval_sentence({facts.hour_ms: facts for facts in work.closed}, work.settings.sample_interval_seconds)
    if said and work.summary.hours == len(work.closed):
        _LOG.warning("%s", said)
    for facts in work.closed if follow else ():
        start = datetime.fromtimestamp(facts.hour_ms / SECOND_MS, UTC)
        early = ", early" if facts.forced else ""
        _LOG.info("closed the hour %s UTC: %d samples%s", f"{start:%Y-%m-%d %H:%M}", facts.sample_count, early)
    work.closed.clear()


def _feed(work: Work, ahead: DecodingThread, order: Order, progress: Progress) -> None:
    """Hand the batches of one reading to the work, until it ends or a gap is met."""
    rested_at = time.monotonic()
    for decoded in ahead:
        if decoded is not None:
            work.take(decoded)
            _say_closed(work, follow=order.follow)
            progress(work)
        # A log that is never read to its end, because there is always more, is worked on all the same.
        if order.follow and (decoded is None or time.monotonic() - rested_at >= work.settings.merge_seconds):
            work.rest()
            _say_closed(work, follow=order.follow)
            rested_at = time.monotonic()


def _read_log(work: Work, order: Order, *, stop: threading.Event, progress: Progress) -> None:
    """Feed the work from the log until its end, or with ``follow`` until told to stop."""
    settings = work.settings
    reading = Reading(settings.series_count_max, settings.batch_samples_max, order.follow, settings.poll_seconds)
    if order.follow:
        _LOG.info("reading the log %s after %s", work.log.name, work.position)
    while True:
        ahead = DecodingThread(work.log, work.position, reading=reading, stop=stop)
        try:
            _feed(work, ahead, order, progress)
            return
        except LogGap as gap:
            if not settings.accept_gap:
                raise Failure(
                    f"the log lost {gap} to retention before it was read; those samples are gone: go on after them "
                    "with --accept-gap"
                ) from gap
            _LOG.warning("going on after lost records: %s", gap)
            work.accept_gap(gap)
        finally:
            ahead.close()


@contextmanager
def _working(log: Log, order: Order, settings: PipelineSettings) -> Iterator[Work]:
    """Hold the warehouse; commit at the end; the time taken goes into the summary."""
    started = time.monotonic()
    warehouse = Warehouse(order.warehouse)
    warehouse.hold()
    try:
        work = Work(log, warehouse, settings=settings, clock=time.monotonic)
        # Told to stop while the log could not be read: what was done so far is kept.
        with suppress(ReadingStopped):
            yield work
        work.retire()
        work.write_state()
        work.summary.samples.add(work.open_counts)
        work.summary.seconds = time.monotonic() - started
    finally:
        warehouse.close()


def run_pipeline(order: Order, settings: PipelineSettings, *, stop: threading.Event, progress: Progress) -> Summary:
    """Read the log into the tables, to its end or until ``stop``. ``progress`` is called after each batch.

    Raises Failure where a person can act.
    """
    with closing(open_log(order.log, settings, follow=order.follow, stop=stop)) as log:
        try:
            with _working(log, order, settings) as work:
                _read_log(work, order, stop=stop, progress=progress)
                work.summary.stopped_early = stop.is_set() and not order.follow
                if not order.follow and not work.summary.stopped_early:
                    work.close_all()
                    _say_closed(work, follow=order.follow)
                    work.merge_late()
        except ReadingStopped:
            return Summary(stopped_early=not order.follow)
        finally:
            stop.set()
    return work.summary


def merge(order: Order, settings: PipelineSettings) -> Summary:
    """Only merge what came late so far and make stale profiles; reads no new records."""
    with (
        closing(open_log(order.log, settings, follow=False, stop=threading.Event())) as log,
        _working(log, order, settings) as work,
    ):
        work.merge_late()
    return work.summary
