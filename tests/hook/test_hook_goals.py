"""Cells of the accuracy and latency tables, judged as the tables are, and the judges themselves."""

from __future__ import annotations

import random

import accuracy
import latency
import pytest
from accuracy import Cell
from contention import Card, Container

SEED = 20
ACCURACY_CELLS = 24
LATENCY_CELLS = 12


def sample() -> list[Cell]:
    """Some of each group, in the order of the table."""
    chosen = random.Random(SEED)
    cells = accuracy.judged_cells()
    pairs = [cell for cell in cells if cell.group == "pair"]
    soft = [cell for cell in cells if cell.group == "soft"]
    quotas = [cell for cell in cells if cell.group == "quota"]
    return chosen.sample(quotas, ACCURACY_CELLS - 8) + chosen.sample(pairs, 4) + chosen.sample(soft, 4)


@pytest.mark.end_to_end
@pytest.mark.parametrize("cell", sample(), ids=lambda cell: f"{cell.group}-{cell.card.model}-{len(cell.containers)}")
def test_accuracy(cell: Cell) -> None:
    shares = accuracy.measure(cell)
    assert not accuracy.missed(cell, shares), accuracy.line_of(cell, shares)


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("model", "high_us", "low_us", "floods"), random.Random(SEED).sample(latency.all_cells()[:24], LATENCY_CELLS)
)
def test_latency(model: str, high_us: int, low_us: int, floods: int) -> None:
    row = latency.measure(model, high_us, low_us, floods)
    assert not row.missed, latency.line_of(row)


ONE = Cell("quota", (Container(0.3), Container(0.7)), Card())
SOFT = Cell("soft", (Container(0.3, policy="soft"), Container(0.5, wait=True)), Card())


@pytest.mark.parametrize(
    ("cell", "shares", "expected"),
    [
        (ONE, [0.309, 0.691], False),
        (ONE, [0.311, 0.689], True),
        (ONE, [0.3, 0.68], True),
        (SOFT, [0.7, 0.3], False),
        (SOFT, [0.28, 0.72], True),
        (SOFT, [0.5, 0.4], True),
    ],
)
def test_what_misses_is_seen(cell: Cell, shares: list[float], expected: bool) -> None:
    assert accuracy.missed(cell, shares) == expected


@pytest.mark.parametrize(("shares", "expected"), [([0.3, 0.7], 0), ([0.28, 0.72], 1)])
def test_accuracy_ends_with_what_it_found(monkeypatch: pytest.MonkeyPatch, shares: list[float], expected: int) -> None:
    monkeypatch.setattr(accuracy, "all_cells", lambda: [ONE])
    monkeypatch.setattr(accuracy, "run", lambda *_: {ONE.key: shares})
    monkeypatch.setattr(accuracy, "table", lambda *_: "")
    monkeypatch.setattr(accuracy, "TABLE", Discarded())
    assert accuracy.main() == expected


@pytest.mark.parametrize(
    ("wait_ms", "idle_share", "floods", "expected"),
    [
        (1.9, 1.0, 1, 0),
        (2.1, 1.0, 1, 1),
        (1.9, 0.96, 1, 1),
        (2.1, 1.0, 3, 0),
    ],
)
def test_latency_ends_with_what_it_found(
    monkeypatch: pytest.MonkeyPatch, wait_ms: float, idle_share: float, floods: int, expected: int
) -> None:
    row = latency.Row("fifo", 100, 1000, floods, 0, wait_ms, 0, 0.5, idle_share)
    monkeypatch.setattr(latency, "all_cells", lambda: [("fifo", 100, 1000, floods)])
    monkeypatch.setattr(latency, "measure", lambda *_: row)
    monkeypatch.setattr(latency, "TABLE", Discarded())
    assert latency.main() == expected


class Discarded:
    """A file of the repository that the test does not write."""

    def write_text(self, text: str) -> None:
        assert isinstance(text, str)

    def relative_to(self, folder: object) -> str:
        return str(folder)
