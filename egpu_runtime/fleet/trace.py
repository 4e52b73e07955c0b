"""The load of a fleet over time, in long form: one row is one container on one card at one time.

Columns come in as arrow arrays (texts from CSV, typed from Parquet) and go out as numpy columns. Every value is
checked; the first wrong one is named by file, row (1 = the first row of data) and column.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from egpu_runtime.contract.metrics import CONTAINER_LABELS
from egpu_runtime.contract.resources import PRIORITY_HIGH, PRIORITY_LOW

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

ArrowArray = Any
"""An arrow array of whatever type the file has; which one is known at run time only."""

ArrowScalar = Any
"""One value of such an array."""

Kind = Literal["time", "text", "bytes", "ratio"]

TIME_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: a greater time was meant in a smaller unit, e.g. microseconds."""

PRIORITIES: Final = ("", str(PRIORITY_HIGH), str(PRIORITY_LOW))
"""What the priority column may hold; empty = none."""

_SHOWN_CHARACTERS_MAX: Final = 80
"""How much of a wrong value a message shows."""

_SEPARATOR: Final = "\x1f"
_POD_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "pod.trace.egpu.io")


class TraceError(Exception):
    """The trace cannot be used; the message is one sentence naming file, row and column."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the long form. ``empty`` says what an empty value means; empty itself = it must be given."""

    name: str
    kind: Kind
    help: str
    empty: str = ""


COLUMNS: Final = (
    Column(
        "timestamp_ms",
        "time",
        "time of the sample, epoch milliseconds UTC, in Parquet also a timestamp (UTC without a zone); rows are sorted "
        "by it",
    ),
    Column("cluster", "text", "name of the cluster"),
    Column("node", "text", "name of the node"),
    Column("gpu_uuid", "text", "the card"),
    Column("gpu_model", "text", "model of the card"),
    Column("gpu_memory_total_bytes", "bytes", "memory of the card"),
    Column("tenant", "text", "who pays", empty="no tenant"),
    Column("namespace", "text", "Kubernetes namespace"),
    Column("workload_kind", "text", "kind of the owner, e.g. Deployment"),
    Column("workload", "text", "name of the owner"),
    Column("pod", "text", "name of the pod"),
    Column("pod_uid", "text", "uid of the pod", empty="derived from cluster, namespace and pod"),
    Column("container", "text", "name of the container"),
    Column("priority", "text", "0 = high, 1 = low, nothing else", empty="no priority"),
    Column(
        "memory_quota_bytes",
        "bytes",
        "memory the container may use on the card, above 0; more than the card has is legal (oversubscription)",
        empty="the whole card",
    ),
    Column(
        "core_quota_ratio",
        "ratio",
        "share of one card's compute it may use, above 0, at most 1",
        empty="the whole card",
    ),
    Column(
        "memory_used_bytes",
        "bytes",
        "memory it uses; above the quota is legal, and above the card (part of it is then in host memory)",
        empty="not observed",
    ),
    Column(
        "core_used_ratio",
        "ratio",
        "share of one card's compute it used, 0-1; above the quota is legal, above the card is not",
        empty="not observed",
    ),
)
"""The long form, in the order of the documentation; a file may have the columns in any order, but all of them."""

_BY_NAME: Final = {column.name: column for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod on one card: the labels of its series, in the order of ``CONTAINER_LABELS``."""

    cluster: str
    node: str
    gpu_uuid: str
    gpu_model: str
    tenant: str
    namespace: str
    workload_kind: str
    workload: str
    pod: str
    pod_uid: str
    container: str
    priority: str

    @property
    def row_key(self) -> tuple[str, ...]:
        """What may stand once at one time."""
        return (self.cluster, self.node, self.gpu_uuid, self.pod_uid, self.container)

    @property
    def pod_key(self) -> tuple[str, ...]:
        """The pod it belongs to."""
        return (self.cluster, self.namespace, self.pod, self.pod_uid)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a trace, sorted by time; every array has one value a row.

    ``container`` is an index into the trace's containers; memory is in bytes, compute a share of one card; use that
    was not observed is NaN.
    """

    timestamp_ms: Integers
    container: Integers
    memory_total_bytes: Floats
    memory_quota_bytes: Floats
    core_quota_ratio: Floats
    memory_used_bytes: Floats
    core_used_ratio: Floats

    def __len__(self) -> int:
        return len(self.timestamp_ms)

    def part(self, start: int, end: int) -> "Rows":
        """Rows [start, end)."""
        return Rows(*(values[start:end] for values in self._columns()))

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return (
            *(self.timestamp_ms, self.container, self.memory_total_bytes, self.memory_quota_bytes),
            *(self.core_quota_ratio, self.memory_used_bytes, self.core_used_ratio),
        )

    @staticmethod
    def joined(parts: Sequence["Rows"]) -> "Rows":
        """Several runs of rows behind one another (at least one)."""
        return Rows(*(np.concatenate(columns) for columns in zip(*(p._columns() for p in parts), strict=True)))


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole trace: who is in it, when each one ends, and its rows as often as they are asked for.

    ``end_ms`` has one value a container: the time at which its pod is gone, one scrape after the pod's last row.
    ``chunks`` gives the rows from the start, in bounded pieces, each sorted and none overlapping the next in time
    by more than the rows of one timestamp.
    """

    containers: tuple[Container, ...]
    end_ms: Integers
    first_ms: int
    last_ms: int
    row_count: int
    chunks: Callable[[], Iterator[Rows]]


def pod_uid_of(cluster: str, namespace: str, pod: str) -> str:
    """The uid given to a pod whose trace has none; the same names give the same uid."""
    return str(uuid.uuid5(_POD_NAMESPACE, "/".join((cluster, namespace, pod))))


class TraceReader:
    """One pass over a trace. Containers are numbered as they appear, so two passes number them alike."""

    def __init__(self, source: str) -> None:
        """``source`` is the name of the trace in messages."""
        self.source = source
        self.containers: list[Container] = []
        self.row_count = 0
        self._index: dict[str, int] = {}
        self._row_keys: dict[tuple[str, ...], int] = {}
        self._row_key_of: list[int] = []
        self._last_ms = -1
        self._last_keys: Integers = np.empty(0, np.int64)

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse a header with a missing, unknown or repeated column. Raises TraceError."""
        for name in names:
            if name not in _BY_NAME:
                raise TraceError(f"{self.source}: column {name!r} is unknown")
            if list(names).count(name) > 1:
                raise TraceError(f"{self.source}: column {name} stands twice")
        for column in COLUMNS:
            if column.name not in names:
                raise TraceError(f"{self.source}: column {column.name} is missing")

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """The next rows, checked. Raises TraceError for the first wrong value of the first wrong column."""
        batch = self._decoded(batch)
        timestamps = self._times(batch.column("timestamp_ms"))
        container = self._containers(batch)
        total = self._numbers(batch, "gpu_memory_total_bytes")
        memory_quota = self._numbers(batch, "memory_quota_bytes")
        core_quota = self._numbers(batch, "core_quota_ratio")
        core_used = self._numbers(batch, "core_used_ratio")
        self._refuse_first(total == 0, "gpu_memory_total_bytes", lambda _: "a card has more than 0 bytes")
        for name, quota in (("memory_quota_bytes", memory_quota), ("core_quota_ratio", core_quota)):
            self._refuse_first(quota == 0, name, lambda _: "0 is no quota; empty means the whole card")
        for name, ratio in (("core_quota_ratio", core_quota), ("core_used_ratio", core_used)):
            self._refuse_above_one_card(name, ratio)
        rows = Rows(
            timestamp_ms=timestamps,
            container=container,
            memory_total_bytes=total,
            memory_quota_bytes=np.where(np.isnan(memory_quota), total, memory_quota),
            core_quota_ratio=np.where(np.isnan(core_quota), 1.0, core_quota),
            memory_used_bytes=self._numbers(batch, "memory_used_bytes"),
            core_used_ratio=core_used,
        )
        self._refuse_repeats(rows)
        self.row_count += len(rows)
        return rows

    def _error(self, index: int, column: str, why: str) -> TraceError:
        return TraceError(f"{self.source}: row {self.row_count + index + 1}, column {column}: {why}")

    def _refuse_first(self, wrong: Booleans, column: str, why: Callable[[int], str]) -> None:
        if wrong.any():
            index = int(np.argmax(wrong))
            raise self._error(index, column, why(index))

    def _refuse_above_one_card(self, column: str, ratio: Floats) -> None:
        self._refuse_first(ratio > 1, column, lambda i: f"{ratio[i]:.17g} is above 1 card (a share, not percent)")

    def _decoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Bytes (all of a CSV) as texts; here and not by arrow's reader, which does not say which row is not UTF-8."""
        for place, name in enumerate(batch.schema.names):
            values: ArrowArray = batch.column(place)
            if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
                batch = batch.set_column(place, name, self._cast(values, name, to=pa.string(), what="UTF-8 text"))
        return batch

    def _cast(self, values: ArrowArray, column: str, *, to: pa.DataType, what: str) -> ArrowArray:
        """Cast; on failure find the first bad value by halving, since arrow does not say which it was."""
        try:
            return pc.cast(values, to)
        except pa.ArrowInvalid:
            good, bad = 0, len(values)
            while bad - good > 1:
                middle = (good + bad) // 2
                try:
                    pc.cast(values.slice(good, middle - good), to)
                    good = middle
                except pa.ArrowInvalid:
                    bad = middle
            raise self._error(good, column, f"{_shown(values[good])} is not {what}") from None
        except pa.ArrowNotImplementedError:
            raise TraceError(f"{self.source}: column {column}: type {values.type} is not {what}") from None

    def _times(self, values: ArrowArray) -> Integers:
        name, what = "timestamp_ms", "a whole number of milliseconds"
        if pa.types.is_timestamp(values.type):
            values = self._cast(values, name, to=pa.timestamp("ms", values.type.tz), what=what)
        else:
            self._refuse_type(values, name, what)
        given = self._cast(values, name, to=pa.int64(), what=what)
        self._refuse_first(_mask(pc.is_null(given)), name, lambda _: "is empty")
        times: Integers = given.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        self._refuse_first(times < 0, name, lambda i: f"{times[i]} is negative")
        self._refuse_first(times > TIME_MS_MAX, name, lambda i: f"{times[i]} is after the year 9999, in milliseconds")
        before = np.concatenate(([self._last_ms], times[:-1]))
        self._refuse_first(times < before, name, lambda i: f"{times[i]} comes after {before[i]}: rows are not sorted")
        return times

    def _refuse_type(self, values: ArrowArray, column: str, what: str) -> None:
        """Refuse types that arrow would turn into numbers though they are none: true, a time of day, a duration."""
        if pa.types.is_boolean(values.type) or pa.types.is_temporal(values.type):
            raise TraceError(f"{self.source}: column {column}: type {values.type} is not {what}")

    def _numbers(self, batch: pa.RecordBatch, name: str) -> Floats:
        """One numeric column; empty is NaN, and minus zero is zero."""
        values: ArrowArray = batch.column(name)
        self._refuse_type(values, name, "a number")
        if pa.types.is_string(values.type):
            values = pc.if_else(pc.equal(values, pa.scalar("")), pa.scalar(None, values.type), values)
        given = self._cast(values, name, to=pa.float64(), what="a number")
        empty = _mask(pc.is_null(given))
        if not _BY_NAME[name].empty:
            self._refuse_first(empty, name, lambda _: "is empty")
        numbers: Floats = np.array(given.to_numpy(zero_copy_only=False), np.float64) + 0.0
        self._refuse_first(~np.isfinite(numbers) & ~empty, name, lambda i: f"{numbers[i]} is not a finite number")
        self._refuse_first(numbers < 0, name, lambda i: f"{numbers[i]:g} is negative")
        return numbers

    def _containers(self, batch: pa.RecordBatch) -> Integers:
        texts: list[ArrowArray] = []
        for name in CONTAINER_LABELS:
            values: ArrowArray = pc.fill_null(self._cast(batch.column(name), name, to=pa.string(), what="a text"), "")
            if not _BY_NAME[name].empty:
                self._refuse_first(_mask(pc.equal(values, pa.scalar(""))), name, lambda _: "is empty")
            broken = _mask(pc.match_substring(values, _SEPARATOR))
            self._refuse_first(broken, name, lambda _: "holds a control character")
            if name == "priority":
                self._refuse_unknown_priority(values)
            texts.append(values)
        joined = pc.binary_join_element_wise(*texts, _SEPARATOR).dictionary_encode()
        numbers = np.array([self._number(key) for key in joined.dictionary.to_pylist()], np.int64)
        indices: Integers = joined.indices.to_numpy(zero_copy_only=False)
        return numbers[indices] if len(numbers) else np.empty(0, np.int64)

    def _refuse_unknown_priority(self, values: ArrowArray) -> None:
        unknown = ~_mask(pc.is_in(values, pa.array(PRIORITIES)))
        self._refuse_first(unknown, "priority", lambda i: f"{_shown(values[i])} is neither 0 (high) nor 1 (low)")

    def _number(self, key: str) -> int:
        number = self._index.get(key)
        if number is None:
            labels = dict(zip(CONTAINER_LABELS, key.split(_SEPARATOR), strict=True))
            if not labels["pod_uid"]:
                labels["pod_uid"] = pod_uid_of(labels["cluster"], labels["namespace"], labels["pod"])
            found = Container(**labels)
            number = self._index[key] = len(self.containers)
            self.containers.append(found)
            self._row_key_of.append(self._row_keys.setdefault(found.row_key, len(self._row_keys)))
        return number

    def _refuse_repeats(self, rows: Rows) -> None:
        """A (time, card, pod, container) stands once, also across the border of two batches."""
        if not len(rows):
            return
        keys = np.array(self._row_key_of, np.int64)[rows.container]
        times = np.concatenate((np.full(len(self._last_keys), self._last_ms, np.int64), rows.timestamp_ms))
        all_keys = np.concatenate((self._last_keys, keys))
        order = np.lexsort((all_keys, times))
        repeated = (np.diff(times[order]) == 0) & (np.diff(all_keys[order]) == 0)
        if repeated.any():
            index = int(order[1:][repeated].min()) - len(self._last_keys)
            raise self._error(index, "timestamp_ms", "repeats an earlier row (same time, card, pod and container)")
        self._last_ms = int(rows.timestamp_ms[-1])
        self._last_keys = all_keys[times == self._last_ms]


def labels_of(container: Container) -> dict[str, str]:
    """Label name -> value, empty ones left out: an empty label is the same as none (Prometheus data model)."""
    return {name: value for name, value in zip(CONTAINER_LABELS, astuple(container), strict=True) if value}


def _shown(value: ArrowScalar) -> str:
    """A wrong value as a message shows it. Times go through arrow, since Python's have no nanoseconds."""
    plain = pc.cast(value, pa.string()).as_py() if pa.types.is_timestamp(value.type) else repr(value.as_py())
    return plain if len(plain) <= _SHOWN_CHARACTERS_MAX else plain[:_SHOWN_CHARACTERS_MAX] + "..."


def _mask(values: ArrowArray) -> Booleans:
    mask: Booleans = values.to_numpy(zero_copy_only=False)
    return mask.astype(np.bool_, copy=False)
