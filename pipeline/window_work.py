"""The work on a warehouse whose hours come as series windows of the Flink job; the log is asked only where those do not
say enough: samples came late, or a target cannot be worked out from its windows.

An hour is made from its files as soon as they are committed, and made from the log after that where it has to be; what
waits for a log that is not at hand is written into its facts, and tried again by every run.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import pyarrow as pa

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import HOUR_MS, SECOND_MS
from pipeline.contract.tables import CONTAINER_USAGE, GPU_USAGE
from pipeline.finalise import HourFacts, LateRules, begun, hours_to_make_again, oldest_kept
from pipeline.frontier import Frontier
from pipeline.hours import FUTURE_MS_MAX
from pipeline.interval import MEMORY_USE, SERIES_MAX, regular_gap_ms
from pipeline.partitions import partition_values
from pipeline.rollup import Grid
from pipeline.rows import HourInput, HourRules, HourTables, hour_tables_of_parts
from pipeline.series_windows import DamagedRows, WindowsOfHour, WindowsTable
from pipeline.window_files import Parts, WindowFiles
from pipeline.work import Work

_LOG: Final = logging.getLogger("egpu-pipeline")

_NAMED_MAX: Final = 3
"""Ambiguous targets that a log line names, count."""


def hour_name(hour_ms: int) -> str:
    """An hour for a person."""
    day, hour = partition_values(hour_ms, by_hour=True)
    return f"{day} {hour}:00 UTC"


class WindowWork(Work):
    """One process's work on one warehouse beside a Flink job. Call :meth:`attach` before anything else."""

    def attach(self, files: WindowFiles, stopped: Callable[[], bool] = lambda: False) -> None:
        """Say where the job's files are, and how to know that the process is told to stop."""
        self._files = files
        self._stopped = stopped
        self._again: set[int] = set()
        self._empty: dict[int, str] = {}
        self.waiting = ""

    def _recognise(self) -> None:
        """The log is not asked before it is needed."""
        self.checkpoint = begun(self.checkpoint, self._hours, self._log.start)
        self._log.identity = self.checkpoint.log_identity

    @property
    def hours(self) -> frozenset[int]:
        """Finalised hours, starts in ms."""
        return frozenset(self._hours)

    @property
    def days(self) -> frozenset[int]:
        """Days that have a profile, starts in ms."""
        return frozenset(self._days)

    def make(self) -> None:
        """Make every hour that is committed and not made of the files it has now, then from the log what has to be.

        ``waiting`` says why hours wait for the log, empty if none does.
        """
        self.waiting = ""
        self._take_late()
        committed = self._files.committed()
        for hour_ms, parts in committed.items():
            before = committed.get(hour_ms - HOUR_MS)
            self.parts[hour_ms] = f"{parts.digest}:{before.digest if before else ''}"
        for hour_ms in committed:
            if self._stopped():
                return
            if self._is_changed(hour_ms, committed):
                self._take_up(hour_ms, committed)
        self._ask_log(committed)
        self.make_profiles()
        self._remove_old(committed)

    def _take_late(self) -> None:
        """Keep what the job noted as late, then remove its files."""
        found = self._files.late()
        new = self._late.note(found.records)
        self.summary.samples.late += new
        self._counted.late += new
        if found.files:
            self.write_state()
            self._files.remove_late(found.files)

    def _is_of_log(self, hour_ms: int) -> bool:
        """Whether an hour was made from the log, late samples included."""
        facts = self._hours.get(hour_ms)
        return facts is not None and bool(facts.included.beyond(self._log.start))

    def _is_changed(self, hour_ms: int, committed: Mapping[int, Parts]) -> bool:
        facts = self._hours.get(hour_ms)
        if facts is None or hour_ms in self._torn:
            return self._empty.get(hour_ms) != self.parts[hour_ms]
        if not facts.parts:
            # The embedded rollup made it from the log.
            return False
        own, _, before = self.parts[hour_ms].partition(":")
        made_own, _, made_before = facts.parts.partition(":")
        return own != made_own or (hour_ms - HOUR_MS in committed and before != made_before)

    def _take_up(self, hour_ms: int, committed: Mapping[int, Parts]) -> None:
        """Make an hour from its files, unless it holds more than they do."""
        if self._is_of_log(hour_ms):
            self._again.add(hour_ms)
            return
        try:
            self._make_from_windows(hour_ms, committed)
        except DamagedRows as damaged:
            _LOG.warning("the series windows of %s: %s", hour_name(hour_ms), damaged)
            self._again.add(hour_ms)

    def _make_from_windows(self, hour_ms: int, committed: Mapping[int, Parts]) -> None:
        tables = [self._files.read(committed[hour_ms])]
        if before := committed.get(hour_ms - HOUR_MS):
            tables.append(self._files.read_last_window(before, self._window_ms))
        windows = WindowsTable(pa.concat_tables(tables), hour_ms - self._window_ms, Grid(self._window_ms))
        heard = _Heard(windows.parts(cluster_default=self.settings.cluster_default))
        rules = HourRules(hour_ms, self._window_ms, self.settings.sample_interval_seconds)
        made = hour_tables_of_parts(heard, rules)
        if not heard.inside:
            self._empty[hour_ms] = self.parts[hour_ms]
            return
        waits = _said_ambiguous(hour_ms, made, windows.nameless_count) or self._had_late(hour_ms - HOUR_MS)
        before_facts = self._hours.get(hour_ms)
        if before_facts and hour_ms not in self._torn and (waits or made.sample_count < before_facts.sample_count):
            # A job that was begun anew may write less than was there; what was made of more is not given up for it.
            self._again.add(hour_ms)
            return
        version = max(self._torn.get(hour_ms, 0), before_facts.version if before_facts else 0) + 1
        facts = HourFacts(
            hour_ms=hour_ms,
            version=version,
            first=replace(self._log.start, places=()),
            included=self._log.start,
            first_received_ms=0,
            sample_count=made.sample_count,
            late_count=self._late.count("pending", hour_ms),
            window_ms=self._window_ms,
            interval_ms=heard.interval_ms,
            parts=self.parts[hour_ms],
            waits_for_log=waits,
        )
        self._keep(facts, made)
        self.closed.append(facts)
        self.summary.hours += 0 if before_facts else 1
        self.summary.hours_made_again += 1 if before_facts else 0

    def _had_late(self, hour_ms: int) -> bool:
        """Whether samples of an hour came late: the next hour's counters may rise from one of them."""
        return any(note.hour_ms == hour_ms and note.decision != "too_late" for note in self._late.notes.values())

    def _ask_log(self, committed: Mapping[int, Parts]) -> None:
        """Make from the log what has to be made from it; where it is not at hand that waits."""
        # An hour that the job has not committed will be; one before a committed one has no file because all came late.
        closed_ms = max([0, *committed, *self._hours])
        wanted = self._again | {hour_ms for hour_ms, facts in self._hours.items() if facts.waits_for_log}
        hours = sorted(wanted | {note.hour_ms for note in self._late.pending() if note.hour_ms <= closed_ms})
        if not hours:
            return
        try:
            super()._recognise()
            self._make_from_log(wanted, closed_ms)
        except Failure as failure:
            self.waiting = (
                f"hours that have to be made from the log: {len(hours)}, from {hour_name(hours[0])} on: {failure}"
            )

    def _make_from_log(self, wanted: Iterable[int], closed_ms: int) -> None:
        upto = self._log.end_place()
        oldest_ms = max(oldest_kept(self._hours, self.settings.table_retention_days), self.checkpoint.fixed_until_ms)
        rules = LateRules(self._log.lost(), self.settings.late_accept_seconds * SECOND_MS, oldest_ms)
        before = self._late.count("too_late")
        late = {hour_ms for hour_ms in hours_to_make_again(self._late, self._hours, rules) if hour_ms <= closed_ms}
        following = {hour_ms + HOUR_MS for hour_ms in late} & self._hours.keys()
        again = sorted(hour_ms for hour_ms in {*wanted, *late, *following} if hour_ms >= oldest_ms)
        held = [hour_ms for hour_ms in again if not self._may_have_lost(hour_ms)]
        self._pass(held, upto)
        for hour_ms in sorted({*wanted, *late}):
            if hour_ms not in held or not self._is_of_log(hour_ms):
                self._give_up(hour_ms)
        self._again.clear()
        too_late = self._late.count("too_late") - before
        self.summary.samples.too_late += too_late
        self._counted.too_late += too_late

    def _may_have_lost(self, hour_ms: int) -> bool:
        return self._log.may_have_lost(hour_ms - self._window_ms - FUTURE_MS_MAX)

    def _pass(self, hours: list[int], upto: Frontier) -> None:
        while hours:
            hours = self._make_again(hours, upto)

    def _give_up(self, hour_ms: int) -> None:
        """The log does not hold an hour any more: it stays as it is, and waits no longer."""
        stays = "stays as its series windows give it" if hour_ms in self._hours else "cannot be made"
        _LOG.warning("%s %s: the log does not hold it any more", hour_name(hour_ms), stays)
        for note in self._late.pending():
            if note.hour_ms == hour_ms:
                self._late.decide((note.position, hour_ms), "too_late")
        facts = self._hours.get(hour_ms)
        if facts is not None and (facts.waits_for_log or facts.parts != self.parts.get(hour_ms, facts.parts)):
            container, card = (
                self._warehouse.read_hour(table, hour_ms, table.column_names())
                for table in (CONTAINER_USAGE, GPU_USAGE)
            )
            parts = self.parts.get(hour_ms, facts.parts)
            settled = replace(facts, version=facts.version + 1, waits_for_log=False, parts=parts)
            self._keep(settled, HourTables(container, card, facts.sample_count))

    def _remove_old(self, committed: Mapping[int, Parts]) -> None:
        """Remove series windows that no late sample can ask for again, once their hour and the next one are made."""
        newest_ms = max(committed, default=0)
        limit_ms = newest_ms - self.settings.late_accept_seconds * SECOND_MS
        unmade = min([hour for hour in committed if self._is_changed(hour, committed)], default=1 << 62)
        for hour_ms, parts in committed.items():
            if hour_ms + HOUR_MS <= min(limit_ms, unmade - HOUR_MS) and not self._waits(hour_ms):
                self._files.remove(parts)

    def _waits(self, hour_ms: int) -> bool:
        return any(
            facts is not None and facts.waits_for_log
            for facts in (self._hours.get(hour_ms), self._hours.get(hour_ms + HOUR_MS))
        )


class _Heard:
    """Parts of an hour as they are made; ``inside`` = one of them has a sample in the hour itself, ``interval_ms`` =
    how far apart samples come, 0 = not regularly."""

    def __init__(self, parts: Iterable[WindowsOfHour]) -> None:
        self._parts = parts
        self.inside = False
        self.interval_ms = 0

    def __iter__(self) -> Iterator[HourInput]:
        for part in self._parts:
            self.inside = self.inside or bool((part.last[:, 1:] >= 0).any())
            if not self.interval_ms:
                self.interval_ms = regular_gap_ms(part.sample_times(MEMORY_USE, SERIES_MAX), part.series)
            yield part


def _said_ambiguous(hour_ms: int, made: HourTables, nameless_count: int) -> bool:
    """Whether an hour has to be made from the log, said in a line."""
    if nameless_count:
        _LOG.info("%s is made from the log: %d series windows have no name", hour_name(hour_ms), nameless_count)
    if made.ambiguous:
        some = ", ".join(made.ambiguous[:_NAMED_MAX])
        more = f" and {len(made.ambiguous) - _NAMED_MAX} more" if len(made.ambiguous) > _NAMED_MAX else ""
        _LOG.info("%s is made from the log: its series windows do not add up to %s%s", hour_name(hour_ms), some, more)
    return bool(made.ambiguous or nameless_count)
