"""How far each container is from its compute quota, and the table of it.

`python tests/hook/accuracy.py` prints a line per cell, writes docs/reference/hook_accuracy.md and ends with 1 when a
cell missed its goal. What was measured with the same hook and driver is not measured again
(tests/hook/driver/build/accuracy.jsonl): a run can be interrupted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import building
from contention import MEASURED_MS, Card, Container, launcher_program, share_card

QUOTAS = (0.05, 0.10, 0.20, 0.30, 0.50, 0.70, 0.95)
KERNELS_US = (10, 50, 200, 1000, 5000, 20000)
NEIGHBOURS = (0, 1, 3)
NEIGHBOUR_KERNELS_US = (1000, 200, 5000)
MODES: tuple[Literal["plain", "graph", "cooperative", "ex"], ...] = ("plain", "graph", "cooperative", "ex")
MODELS = ("fifo", "timeslice")
PAIRS = ((0.30, 0.50), (0.40, 0.60), (0.10, 0.90))
PAIR_KERNELS_US = ((200, 200), (200, 2000), (2000, 200), (10, 20000), (20000, 10))
JITTERS = (100, 300, 500)
"""Thousandths that the time of a kernel varies by: what depends on data."""
POINTS_MAX = 1.0
WORKERS = 2
WALL = Card(clock="wall", measured_ms=1500)
TABLE = building.ROOT / "docs/reference/hook_accuracy.md"
RESULTS = building.DRIVER / "build/accuracy.jsonl"


@dataclass(frozen=True)
class Cell:
    """One run: the containers and the card."""

    group: str
    containers: tuple[Container, ...]
    card: Card

    @property
    def key(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def quota_cell(quota: float, kernel_us: int, neighbours: int, mode: str, model: str) -> Cell:
    """A container and neighbours that have the rest of the card, in equal parts."""
    containers = [Container(quota, kernel_us, mode=mode)]  # type: ignore[arg-type]
    for kernel in NEIGHBOUR_KERNELS_US[:neighbours]:
        containers.append(Container(round((1 - quota) / neighbours, 4), kernel))
    return Cell("quota", tuple(containers), Card(model))


def quota_cells() -> list[Cell]:
    return [
        quota_cell(quota, kernel_us, neighbours, mode, model)
        for model in MODELS
        for mode in MODES
        for neighbours in NEIGHBOURS
        for quota in QUOTAS
        for kernel_us in KERNELS_US
    ]


def pair_cells() -> list[Cell]:
    return [
        Cell("pair", (Container(one, kernels[0]), Container(other, kernels[1])), Card(model))
        for model in MODELS
        for one, other in PAIRS
        for kernels in PAIR_KERNELS_US
    ]


def soft_cells() -> list[Cell]:
    """All want more than their share; one is alone; one of them is hard; one has pauses of its own."""
    together = tuple(Container(quota, kernel, policy="soft") for quota, kernel in ((0.3, 200), (0.3, 2000), (0.4, 50)))
    spare = (Container(0.2, 500, policy="soft"), Container(0.3, 2000, policy="soft"))
    alone = (Container(0.05, 1000, policy="soft"),)
    mixed = (Container(0.3, 200, policy="soft"), Container(0.4, 1000))
    pauses = (Container(0.3, 200, policy="soft"), Container(0.5, 1000, wait=True, gap_us=3000))
    return [
        Cell("soft", containers, Card(model))
        for model in MODELS
        for containers in (together, spare, alone, mixed, pauses)
    ]


def jitter_cells() -> list[Cell]:
    containers = (Container(0.3, 200), Container(0.7, 2000))
    return [
        Cell("jitter", containers, Card(model, jitter_thousandths=jitter)) for model in MODELS for jitter in JITTERS
    ]


def wall_cells() -> list[Cell]:
    """30 cells on the machine's own clock: printed beside, judged by nobody, for two cores blur them."""
    return [
        Cell("wall", quota_cell(quota, kernel_us, neighbours, "plain", "fifo").containers, WALL)
        for quota in (0.1, 0.3, 0.5, 0.7, 0.95)
        for kernel_us in (200, 1000, 5000)
        for neighbours in (0, 1)
    ]


def all_cells() -> list[Cell]:
    return [*quota_cells(), *pair_cells(), *soft_cells(), *jitter_cells(), *wall_cells()]


def judged_cells() -> list[Cell]:
    return [cell for cell in all_cells() if cell.group in ("quota", "pair", "soft")]


def measure(cell: Cell) -> list[float]:
    return share_card(cell.containers, cell.card).shares


def points(cell: Cell, shares: Sequence[float]) -> list[float]:
    """Points of card time above (+) or below (-) the quota."""
    return [100 * (share - one.quota) for one, share in zip(cell.containers, shares, strict=True)]


def missed(cell: Cell, shares: Sequence[float]) -> bool:
    """Not within the goal of its group."""
    errors = points(cell, shares)
    if cell.group in ("quota", "pair"):
        return max(abs(error) for error in errors) > POINTS_MAX
    if cell.group == "soft":
        flooding = [not one.wait for one in cell.containers]
        short = any(error < -POINTS_MAX for error, floods in zip(errors, flooding, strict=True) if floods)
        return short or sum(shares) < 0.98
    return False


def _state() -> str:
    """Of what was measured: the same libraries give the same figures."""
    digest = hashlib.sha256()
    for path in (building.hook(), building.driver() / "libcuda.so.1", launcher_program()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run(cells: Sequence[Cell], results: Path, say: Callable[[str], object] = print) -> dict[str, list[float]]:
    """Shares by the key of the cell; those that the file has already are taken from it."""
    state = _state()
    known: dict[str, list[float]] = {}
    if results.exists():
        rows = (json.loads(line) for line in results.read_text().splitlines())
        known = {row["key"]: row["shares"] for row in rows if row["state"] == state}
    todo = [cell for cell in cells if cell.key not in known]
    with results.open("a") as file, ThreadPoolExecutor(WORKERS) as pool:
        for cell, shares in zip(todo, pool.map(measure, todo), strict=True):
            known[cell.key] = shares
            file.write(json.dumps({"state": state, "key": cell.key, "shares": shares}) + "\n")
            file.flush()
            say(line_of(cell, shares))
    return {cell.key: known[cell.key] for cell in cells}


def line_of(cell: Cell, shares: Sequence[float]) -> str:
    parts = [
        f"{100 * one.quota:g}% {one.kernel_us} us: {100 * share:.2f}"
        for one, share in zip(cell.containers, shares, strict=True)
    ]
    mark = " MISSED" if missed(cell, shares) else ""
    return f"{cell.group} {cell.card.model} {cell.containers[0].mode} | {' | '.join(parts)}{mark}"


def table(shares: dict[str, list[float]]) -> str:
    judged = judged_cells()
    misses = [cell for cell in judged if missed(cell, shares[cell.key])]
    errors = [abs(error) for cell in judged if cell.group != "soft" for error in points(cell, shares[cell.key])]
    own = [abs(points(cell, shares[cell.key])[0]) for cell in judged if cell.group == "quota"]
    lines = [
        "# Accuracy of the compute quota",
        "",
        "Generated by `make hook-accuracy`; not edited by hand. Simulated driver, virtual clock: errors in points of",
        f"card time (share minus quota) over {MEASURED_MS / 1000:g} s after the first second, by the driver's books.",
        "",
        f"- {len(judged)} cells judged, {len(misses)} missed the goal ({POINTS_MAX:g} point, every container of it).",
        f"- Worst error of any container {max(errors):.2f} points; of the container in question, the median is "
        f"{sorted(own)[len(own) // 2]:.3f}.",
        f"- Neighbours: one runs kernels of {NEIGHBOUR_KERNELS_US[0]} us; three run "
        f"{', '.join(str(kernel) for kernel in NEIGHBOUR_KERNELS_US)} us. They share what the quota leaves, so quotas "
        "add up to the whole card.",
        "",
        "## Quota by kernel length",
        "",
    ]
    for model in MODELS:
        for mode in MODES:
            for neighbours in NEIGHBOURS:
                lines += quota_table(shares, model, mode, neighbours)
    for title, cells in (
        ("Pairs", pair_cells()),
        ("Soft policy", soft_cells()),
        ("Kernels whose time depends on data (not judged)", jitter_cells()),
    ):
        lines += list_table(title, cells, shares)
    lines += list_table(f"Wall clock, {len(wall_cells())} cells (not judged)", wall_cells(), shares)
    lines += [
        "Where less of the card was used than the quotas add up to, a thread got no processor before the 4 ms that",
        "it may have in flight were over. It may make up for 60 ms of that when the card is free.",
        "",
    ]
    lines += ["## Missed", ""]
    lines += [f"- {line_of(cell, shares[cell.key])}" for cell in misses] or ["None."]
    return "\n".join(lines) + "\n"


def quota_table(shares: dict[str, list[float]], model: str, mode: str, neighbours: int) -> Iterable[str]:
    yield f"### {model}, {mode}, {neighbours} neighbours"
    yield ""
    yield "| quota % | " + " | ".join(f"{kernel} us" for kernel in KERNELS_US) + " |"
    yield "|-" * (len(KERNELS_US) + 1) + "|"
    for quota in QUOTAS:
        cells = [quota_cell(quota, kernel, neighbours, mode, model) for kernel in KERNELS_US]
        row = [f"{points(cell, shares[cell.key])[0] + 0.0:+.2f}".replace("-0.00", "+0.00") for cell in cells]
        yield f"| {100 * quota:g} | " + " | ".join(row) + " |"
    yield ""


def list_table(title: str, cells: Sequence[Cell], shares: dict[str, list[float]]) -> Iterable[str]:
    yield f"## {title}"
    yield ""
    yield "| card | containers: quota %, policy, kernel us | share % | card in use % |"
    yield "|-|-|-|-|"
    for cell in cells:
        got = shares[cell.key]
        containers = "; ".join(
            f"{100 * one.quota:g} {one.policy} {one.kernel_us}"
            + (f" waits, pauses {one.gap_us} us" if one.wait else "")
            for one in cell.containers
        )
        varied = f", ±{cell.card.jitter_thousandths / 10:g} %" if cell.card.jitter_thousandths else ""
        parts = "; ".join(f"{100 * share:.2f}" for share in got)
        yield f"| {cell.card.model}{varied} | {containers} | {parts} | {100 * sum(got):.1f} |"
    yield ""


def main() -> int:
    shares = run(all_cells(), RESULTS)
    TABLE.write_text(table(shares))
    missed_count = sum(missed(cell, shares[cell.key]) for cell in all_cells())
    print(f"{len(shares)} cells, {missed_count} missed; {TABLE.relative_to(building.ROOT)}")
    return int(missed_count > 0)


if __name__ == "__main__":
    sys.exit(f"error: takes no arguments, not {sys.argv[1]}" if sys.argv[1:] else main())
