"""Which labels name a series for our tables: found out by reading every metric and noting what is asked for.

The job keeps these labels of a series and drops the others, so that replicas of a sender merge and a series is named as
the tables see it. Nothing is listed by hand: a rule added to ``normalise`` or an exporter's row shows here by itself.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from egpu_runtime.contract.exporters import ALIASES
from egpu_runtime.contract.metrics import METRICS, Subject
from egpu_runtime.contract.resources import GPU_RESOURCES_OF_KUBE_STATE
from pipeline.normalise import read_labels, subjects_of

_NAME: Final = "__name__"

_ANSWERS: Final = ("x", min(GPU_RESOURCES_OF_KUBE_STATE))
"""Values that a rule may look for before it reads on."""


@dataclass(frozen=True, slots=True)
class SeriesRule:
    """A metric name of a sender: the labels that name its series, sorted, and the bound that its values stay below, in
    the sender's unit. A metric with several rules is read as several series."""

    name: str
    labels: tuple[str, ...]
    valid_max: float


class _Noted(Mapping[str, str]):
    """Labels that note what is asked for."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("labels are asked for one by one")

    def __len__(self) -> int:
        return len(self._given)


def _rule(name: str, subjects: Container[Subject]) -> SeriesRule:
    """Ask with no label at all, then with each label that was asked for present, until nothing new is asked for."""
    known: set[str] = set()
    waiting: list[tuple[str, str] | None] = [None]
    bounds: set[float] = set()
    while waiting:
        given = waiting.pop()
        noted = _Noted({_NAME: name, **dict([given] if given else [])})
        bounds |= {reading.valid_max for reading in read_labels(noted, cluster_default="", subjects=subjects)}
        new = noted.asked - known - {_NAME}
        known |= new
        waiting += [(label, answer) for label in sorted(new) for answer in _ANSWERS]
    if len(bounds) != 1:
        raise ValueError(f"{name} is read as nothing, or with several bounds: {sorted(bounds)}")
    return SeriesRule(name, tuple(sorted(known)), bounds.pop())


def series_table() -> tuple[SeriesRule, ...]:
    """The rules of every metric name that our tables read, sorted by name.

    What tells of a card and of a container on it is two series: the card's has its own labels alone. It goes on when
    the container does not, and what several containers' series say of one card is one series.
    Raises ValueError for a name whose rules could not be found out.
    """
    names = sorted({metric.name for metric in METRICS} | {alias.name for alias in ALIASES})
    subjects = {name: subjects_of(name) for name in names}
    return tuple(_rule(name, subjects[name][:count]) for name in names for count in range(1, len(subjects[name]) + 1))


def series_table_text(rules: tuple[SeriesRule, ...]) -> str:
    """As the option ``remote-write.series-table`` reads it: one rule a line, ``NAME [<BOUND] LABEL ...``."""
    lines = []
    for rule in rules:
        bound = "" if rule.valid_max == float("inf") else f" <{rule.valid_max!r}"
        lines.append(f"{rule.name}{bound} {' '.join(rule.labels)}")
    return "\n".join(lines)
