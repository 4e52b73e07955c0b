"""Load curves of a group over the week as shapes to draw: stacked members, the card's capacity, both axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from advisor.contract import Group
from advisor.wording import MIB_PER_GIB, WEEKDAYS, gibibytes

WIDTH: Final = 960
HEIGHT: Final = 280
LEFT: Final = 62
RIGHT: Final = 12
TOP: Final = 22
BOTTOM: Final = 34
"""Size of the picture and of the margins around the plot, in units of its view box."""

HOURS_PER_WEEK: Final = 168
MEMBERS_SHOWN_MAX: Final = 9
"""Members with a colour of their own; the smallest of a larger group are drawn as one band, so colours stay apart."""

TICK_STEPS_GIB: Final = (1, 2, 4, 5, 10, 20, 25, 50, 100, 200)
TICK_COUNT_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Band:
    """One member's share of the load: an SVG path, the number of its colour, and what the legend says."""

    path: str
    colour: int
    label: str
    peak: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its position in view box units and its label."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class LoadChart:
    """Everything a template needs to draw one group."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    bands: tuple[Band, ...]
    capacity: Tick
    load_ticks: tuple[Tick, ...]
    days: tuple[Tick, ...]
    day_width: float
    peak: Tick
    peak_x: float


def load_chart(group: Group) -> LoadChart:
    """Shapes for one group, the steadiest member at the bottom so that the others' shapes stay readable."""
    series = _bands_of(group)
    top_mib = max(group.capacity_mib, max(group.load_mib, default=0), 1) * 1.06
    floor = [0] * HOURS_PER_WEEK
    bands = []
    for colour, (label, values) in enumerate(series):
        ceiling = [low + value for low, value in zip(floor, values, strict=True)]
        path = _area([_y(value, top_mib) for value in ceiling], [_y(value, top_mib) for value in floor])
        bands.append(Band(path, colour, label, gibibytes(max(values))))
        floor = ceiling
    peak_mib = max(floor, default=0)
    peak_hour = floor.index(peak_mib) if floor else 0
    day_width = (WIDTH - LEFT - RIGHT) / 7
    return LoadChart(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        bands=tuple(bands),
        capacity=Tick(_y(group.capacity_mib, top_mib), gibibytes(group.capacity_mib)),
        load_ticks=_load_ticks(top_mib),
        days=tuple(Tick(LEFT + day_width * (day + 0.5), name) for day, name in enumerate(WEEKDAYS)),
        day_width=day_width,
        peak=Tick(_y(peak_mib, top_mib), _hour_name(peak_hour)),
        peak_x=round(_x(peak_hour + 0.5), 1),
    )


def _bands_of(group: Group) -> list[tuple[str, Sequence[int]]]:
    """Label and hourly load of every band, bottom first."""
    members = [
        (f"{member.namespace}/{member.name}", tuple(values))
        for member, values in zip(group.members, group.member_load_mib, strict=True)
        if len(values) == HOURS_PER_WEEK
    ]
    members.sort(key=lambda member: max(member[1]), reverse=True)
    shown, rest = members[:MEMBERS_SHOWN_MAX], members[MEMBERS_SHOWN_MAX:]
    shown.sort(key=lambda member: max(member[1]) - min(member[1]))
    if rest:
        together = tuple(sum(values) for values in zip(*(values for _, values in rest), strict=True))
        shown.append((f"{len(rest)} others", together))
    return list(shown)


def _x(hour: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * hour / HOURS_PER_WEEK


def _y(load_mib: float, top_mib: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * load_mib / top_mib, 1)


def _area(ceiling: Sequence[float], floor: Sequence[float]) -> str:
    """Closed path between two step lines of one value an hour; equal neighbours are drawn as one line."""
    there = _steps(ceiling, range(HOURS_PER_WEEK))
    back = _steps(floor, range(HOURS_PER_WEEK - 1, -1, -1))
    points = [f"{x:.1f},{y:g}" for x, y in there + back]
    return "M" + "L".join(points) + "Z"


def _steps(values: Sequence[float], hours: range) -> list[tuple[float, float]]:
    ahead = 1 if hours.step > 0 else 0
    points: list[tuple[float, float]] = []
    for hour in hours:
        start, end = _x(hour + 1 - ahead), _x(hour + ahead)
        if points and points[-1][1] == values[hour]:
            points[-1] = (end, values[hour])
        else:
            points += [(start, values[hour]), (end, values[hour])]
    return points


def _load_ticks(top_mib: float) -> tuple[Tick, ...]:
    top_gib = top_mib / MIB_PER_GIB
    step = next((step for step in TICK_STEPS_GIB if top_gib / step <= TICK_COUNT_MAX), TICK_STEPS_GIB[-1])
    marks = accumulate([step] * int(top_gib / step), initial=0)
    return tuple(Tick(_y(mark * MIB_PER_GIB, top_mib), f"{mark}") for mark in marks)


def _hour_name(hour: int) -> str:
    return f"{WEEKDAYS[hour // 24]} {hour % 24:02d}-{hour % 24 + 1:02d}"
