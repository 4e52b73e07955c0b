"""Golden tables as text, in the notation of Prometheus' promqltest, with rows instead of query results.

``set NAME VALUE`` changes a setting. ``load STEP`` is followed by indented series: ``name{labels} values``, where a
value is a number, ``_`` (no sample), ``stale``, ``nan``, ``inf``, ``AxN`` (A and N more), ``A+BxN`` (N more rising by
B). ``rows TABLE`` is followed by indented expectations: ``{labels} @TIME column=value ...``: exactly one row of that
window start has these labels, with these values (``NULL`` = none, numbers to 9 digits), or with ``absent``: none.
``count N``: the table has so many rows. Times count from 2026-01-01T00:00Z.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline_log import STALE, Sample

START_MS = 1_767_225_600_000
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RANGE = re.compile(r"^(?P<first>[^x]+?)(?:(?P<step>[+-][0-9.e]+))?x(?P<more>\d+)$")


def milliseconds(text: str) -> int:
    parts = re.findall(r"(\d+)(ms|s|m|h|d)", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def labels_of(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def _number(text: str) -> float | None:
    match text:
        case "_":
            return None
        case "stale":
            return STALE
        case _:
            return float(text)


def values_of(text: str) -> Iterator[float | None]:
    for word in text.split():
        found = _RANGE.match(word)
        if found is None:
            yield _number(word)
            continue
        first, step = _number(found["first"]), float(found["step"] or 0)
        for index in range(int(found["more"]) + 1):
            yield None if first is None else first + index * step


@dataclass
class Expectation:
    table: str
    line: str
    labels: dict[str, str]
    window_ms: int
    values: dict[str, str]
    absent: bool


@dataclass
class Case:
    settings: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def _load(case: Case, line: str, step_ms: int) -> None:
    found = re.match(r"^(\w+)(\{.*\})?\s+(.*)$", line)
    assert found, line
    labels = {"__name__": found[1], **labels_of(found[2] or "")}
    for index, value in enumerate(values_of(found[3])):
        if value is not None:
            case.samples.append((labels, START_MS + index * step_ms, value))


def _expect(case: Case, line: str, table: str) -> None:
    if line.startswith("count "):
        case.counts[table] = int(line.split()[1])
        return
    found = re.match(r"^\{(.*)\}\s+@(\w+)\s+(.*)$", line)
    assert found, line
    values = dict(re.findall(r"(\w+)=(\"[^\"]*\"|\S+)", found[3]))
    case.expectations.append(
        Expectation(
            table, line, labels_of(found[1]), START_MS + milliseconds(found[2]), values, found[3].strip() == "absent"
        )
    )


def parse(text: str) -> Case:
    case = Case()
    mode: Sequence[str] = ()
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].rstrip() if '"#' not in raw else raw.rstrip()
        if not line.strip():
            continue
        if not raw.startswith(" "):
            mode = line.split()
            if mode[0] == "set":
                case.settings[mode[1]] = mode[2]
        elif mode[0] == "load":
            _load(case, line.strip(), milliseconds(mode[1]))
        else:
            _expect(case, line.strip(), mode[1])
    return case


def same(actual: object, expected: str) -> bool:
    if expected == "NULL":
        return actual is None
    if expected.startswith('"'):
        return actual == expected.strip('"')
    if actual is None or isinstance(actual, str):
        return False
    return math.isclose(float(str(actual)), float(expected), rel_tol=1e-9, abs_tol=1e-12)
