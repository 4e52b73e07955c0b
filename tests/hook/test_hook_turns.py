"""The processes of one container share its quota equally, by card time, whatever they launch; and none of them keeps
the others from being measured.
"""

from collections.abc import Sequence
from dataclasses import replace

import contention
import pytest
from contention import FIFO, TIMESLICE, Card, Container

JUDGED_MS = 1500
APART_MAX = 0.02
"""Of the card: between the processes, and between the container and its quota."""

MILLISECOND = Container(quota=0.2, kernel_us=1000)
BORROWER = Container(quota=0.8, kernel_us=1000, policy="soft")
LONG_BORROWERS = (
    Container(quota=0.06, kernel_us=20000, policy="soft", wait=True, gap_us=2500),
    Container(kernel_us=20000, same=True),
)


def processes(of: Container, *kernels_us: int) -> list[Container]:
    return [replace(of, kernel_us=kernel_us, same=rank > 0) for rank, kernel_us in enumerate(kernels_us)]


def check(
    given: tuple[Sequence[Container], Sequence[Container], Card], expected: float, *, together: bool = False
) -> None:
    """Processes of one container, its neighbours, the card; and what each of the former gets, or all of them."""
    ours, neighbours, card = given
    shares = contention.share_card([*ours, *neighbours], replace(card, measured_ms=JUDGED_MS)).shares[: len(ours)]
    judged = [sum(shares)] if together else shares
    assert judged == pytest.approx([expected] * len(judged), abs=APART_MAX), shares


def test_equal_ones() -> None:
    check((processes(MILLISECOND, 1000, 1000, 1000), [], FIFO), 0.2 / 3)


@pytest.mark.parametrize("card", [FIFO, TIMESLICE], ids=["fifo", "timeslice"])
def test_equal_ones_beside_a_borrower(card: Card) -> None:
    check((processes(MILLISECOND, 1000, 1000, 1000), [BORROWER], card), 0.2 / 3)


def test_short_and_long_kernels() -> None:
    check((processes(MILLISECOND, 10, 20000), [], FIFO), 0.1)


def test_kernels_that_no_sibling_lets_alone() -> None:
    """Each is measured beside three of its own container and two neighbours that borrow the card for 20 ms."""
    ours = processes(replace(MILLISECOND, quota=0.5, kinds=4), 1000, 500, 1000, 500)
    check((ours, LONG_BORROWERS, FIFO), 0.5, together=True)
