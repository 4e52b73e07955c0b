"""Waiting for a server that does not answer: how long it has been silent, and when that is said or given up."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from egpu_runtime.contract.process import Failure
from pipeline.reading import ReadingStopped

_LOG: Final = logging.getLogger("egpu-pipeline")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What to do while nobody answers: without ``follow`` give up after ``seconds``; with it say so as often, and
    wait until ``stop``."""

    follow: bool
    stop: threading.Event
    seconds: float


class Silence:
    """How long a server (``where``, for sentences) has said nothing, and why as far as we know."""

    def __init__(self, waiting: Waiting, where: str, *, known: bool = False) -> None:
        self._waiting = waiting
        self._where = where
        self._since = self._said = time.monotonic()
        self._why = ""
        self._final = ""
        self._known = known

    def end(self) -> None:
        """Something was heard: from now on whatever goes wrong may pass."""
        if self._said > self._since:
            _LOG.info("%s answers again", self._where)
        self._since = self._said = time.monotonic()
        self._why = self._final = ""
        self._known = True

    def note(self, why: str, *, final: str = "") -> None:
        """Keep what is wrong for the sentence; ``final`` = why waiting is of no use where nothing was heard before."""
        self._final = final or self._final
        self._why = final or self._why or why

    def go_on(self) -> None:
        """Raises ReadingStopped when told to stop, Failure when waiting is of no use or was long; says so else."""
        if self._waiting.stop.is_set():
            raise ReadingStopped
        if self._final and not self._known:
            raise Failure(f"{self._where} {self._final}")
        now = time.monotonic()
        if now - self._said < self._waiting.seconds:
            return
        why = self._why or "nothing comes"
        if not self._waiting.follow:
            raise Failure(f"{self._where} has not answered for {now - self._since:.0f} s: {why}")
        _LOG.warning("%s has not answered for %.0f s, waiting: %s", self._where, now - self._since, why)
        self._said = now
