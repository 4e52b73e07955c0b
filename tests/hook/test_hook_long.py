"""Kernels of seconds: they are charged as they run, and neighbours make up for what they waited."""

import pytest
from contention import Card, Container, share_card

MINUTE_MS = 60_000
KERNEL_OF_MINUTE = 0.05
"""Three seconds of sixty: nobody can be nearer to a quota than one kernel."""


def check(given: tuple[Container, ...], expected: tuple[float, ...], error: float) -> None:
    shares = share_card(given, Card(measured_ms=MINUTE_MS)).shares
    assert shares == pytest.approx(expected, abs=error), shares


def test_three_seconds_alone() -> None:
    check((Container(0.1, 3_000_000),), (0.1,), KERNEL_OF_MINUTE)


def test_one_second_alone() -> None:
    check((Container(0.1, 1_000_000),), (0.1,), KERNEL_OF_MINUTE / 3)
