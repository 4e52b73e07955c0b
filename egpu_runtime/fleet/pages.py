"""What a fleet shows to a scrape: pages of series, each the state of the fleet at one time of the trace."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from egpu_runtime.contract.units import SECOND_MS
from egpu_runtime.fleet.series import SeriesTable, is_stale, moments, samples_of
from egpu_runtime.fleet.trace import Trace

PAGE_SEQUENCE: Final = "egpu_replay_page_sequence"
"""Series of the page's number, so that what a Prometheus stored can be joined to the page it came from."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number from 1, the trace time shown (ms UTC; -1 after the trace's end), series number -> value."""

    sequence: int
    trace_ms: int
    values: dict[int, float]


class Pages:
    """Turns the pages of one trace; a page that was left out is never shown later."""

    def __init__(self, trace: Trace, table: SeriesTable, speed: float | None) -> None:
        """``speed`` = times real time, None = the next time of the trace with every page."""
        self._states = _states(trace, table)
        self._first_ms = trace.first_ms
        self._speed = speed
        self._sequence = 0
        self._state: tuple[int, dict[int, float]] = (-1, {})
        self._next = next(self._states, None)

    def turn(self, elapsed_seconds: float) -> Page:
        """The page to show so long after the first one; after the end of the trace a page without series."""
        if self._speed is None:
            self._advance()
        else:
            trace_ms = self._first_ms + elapsed_seconds * SECOND_MS * self._speed
            while self._next is not None and self._next[0] <= trace_ms:
                self._advance()
        self._sequence += 1
        return Page(self._sequence, *self._state)

    def _advance(self) -> None:
        self._state = self._next if self._next is not None else (-1, {})
        self._next = next(self._states, None)


def _states(trace: Trace, table: SeriesTable) -> Iterator[tuple[int, dict[int, float]]]:
    """A series that has ended is not shown: that is how a scraper learns of its end."""
    for moment in moments(samples_of(trace, table)):
        alive = moment.chosen(~is_stale(moment.value))
        if len(alive):
            yield int(alive.timestamp_ms[0]), dict(zip(alive.series.tolist(), alive.value.tolist(), strict=True))
