"""Kernels of seconds that nobody has seen before: their container has its quota of the first minute and no more."""

from __future__ import annotations

import pytest
from contention import Card, Container, share_card

MINUTE_MS = 60_000
ERROR = 0.02
QUOTA = 0.1
MODELS = ("fifo", "timeslice")
MANY = pytest.param(20, 2_000_000, True, marks=pytest.mark.end_to_end)


def check(given: tuple[Container, ...], expected: float, card: Card) -> None:
    """expected: what all of them got together."""
    shares = share_card(given, card).shares
    assert sum(shares) == pytest.approx(expected, abs=ERROR), shares


def of_one_container(count: int, kernel_us: int, wait: bool) -> tuple[Container, ...]:
    """Processes that begin at once."""
    return tuple(Container(QUOTA, kernel_us, wait=wait, same=each > 0) for each in range(count))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("count", "kernel_us", "wait"),
    [
        (1, 3_000_000, False),
        (1, 3_000_000, True),
        (10, 1_000_000, False),
        (10, 1_000_000, True),
        (20, 2_000_000, False),
        MANY,
    ],
)
def test_first_minute(count: int, kernel_us: int, wait: bool, model: str) -> None:
    check(of_one_container(count, kernel_us, wait), QUOTA, Card(model, measured_ms=MINUTE_MS))


def test_ten_minutes() -> None:
    """More passed before it was known than any guess makes debt for, and is paid."""
    check((Container(QUOTA, 12_000_000),), QUOTA, Card(measured_ms=10 * MINUTE_MS))
