"""Which partition of the topic a series belongs to, and a body cut into one record a partition.

All that is told of one pod meets in one partition, whoever tells it, so that a reader of one partition can join it. The
labels that name pod and card are read through the table of exporters; a series never changes its partition, for the
choice depends on its labels and the partition count alone.
"""

import ctypes
import functools
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.contract.samples import BODY_ERRORS, CorruptRecord, RecordTooLarge, library, read_labels
from collector.validation import BodyChecker
from egpu_runtime.contract.exporters import AGENT, ALIASES, Source
from egpu_runtime.contract.metrics import METRICS

Labels = Iterable[tuple[str, str]]

POD_LABELS: Final = ("cluster", "namespace", "pod")
CARD_LABELS: Final = ("cluster", "node", "gpu_uuid")

_HASH_BYTES: Final = 8
_CACHE_FULL: Final = -7
_OUTPUT_FULL: Final = -8
_NO_MEMORY: Final = -9
_SERIES_UNASSIGNED: Final = -10
_SERIES_TOO_LARGE: Final = -11


def _sources() -> Mapping[str, Source]:
    """Metric name -> the exporter that reports it; rows of one name share their exporter."""
    return {metric.name: AGENT for metric in METRICS} | {alias.name: alias.source for alias in ALIASES}


_SOURCES: Final = _sources()


def _read(name: str, source: Source, labels: Mapping[str, str]) -> str:
    return next((value for theirs in source.labels.get(name, (name,)) if (value := labels.get(theirs))), "")


def partition_key(labels: Labels) -> bytes:
    """What decides the partition: cluster, namespace and pod; without a pod cluster, node and card; else all labels.

    ``labels`` are (name, value) pairs with ``__name__``. The labels of an unknown metric are read under our own names.
    """
    by_name = dict(labels)
    source = _SOURCES.get(by_name.get("__name__", ""), AGENT)
    for required, names in (("pod", POD_LABELS), ("gpu_uuid", CARD_LABELS)):
        if _read(required, source, by_name):
            return "\0".join(_read(name, source, by_name) for name in names).encode()
    return "\0".join(f"{name}\0{value}" for name, value in sorted(by_name.items())).encode()


def partition_of(labels: Labels, partition_count: int) -> int:
    """The partition of a series: BLAKE2b-64 of its key, little-endian, modulo the count.

    Changing this moves series between partitions: a test holds it to written values.
    """
    digest = blake2b(partition_key(labels), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "little") % partition_count


class SeriesTooLarge(RecordTooLarge):
    """One TimeSeries alone is larger than a record may be; repeating the body cannot mend it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One record of a body: a valid WriteRequest, the bytes of a ``uint8`` array."""

    partition: int
    sample_count: int
    value: NDArray[np.uint8]


class _Record(ctypes.Structure):
    """``struct split_record`` of split.c."""

    _fields_ = (
        ("offset", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("sample_count", ctypes.c_int64),
        ("partition", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class _Output(ctypes.Structure):
    """``struct split_output`` of split.c."""

    _fields_ = (
        ("bytes", ctypes.c_void_p),
        ("records", ctypes.c_void_p),
        ("record_max", ctypes.c_uint64),
        ("record_bytes_max", ctypes.c_uint64),
    )


@functools.cache
def _split_library() -> ctypes.CDLL:
    loaded = library()
    loaded.split_new.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    loaded.split_new.restype = ctypes.c_void_p
    loaded.split_free.argtypes = (ctypes.c_void_p,)
    loaded.split_free.restype = None
    loaded.split_assigned.argtypes = (ctypes.c_void_p,)
    loaded.split_assigned.restype = ctypes.c_uint32
    loaded.split_assign.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
    loaded.split_assign.restype = ctypes.c_int
    loaded.split_body.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(_Output))
    loaded.split_body.restype = ctypes.c_int64
    return loaded


class BodySplitter:
    """Cuts the canonical bodies of one checker by partition, in the checker's thread, with the checker's series cache.

    Only those: labels that are new here enter the cache, and the checker holds for valid what is in it. The cache has
    to have room for the series of any one body (a ``SERIES_BYTES_MIN``-th of its bytes). When it is full
    it is emptied, which costs time and nothing else.
    """

    def __init__(self, checker: BodyChecker, partition_count: int) -> None:
        self._library = _split_library()
        self._partition_count = partition_count
        self._checker = checker  # its cache lives as long as we do
        self._cache = checker.series_cache
        self._splitter = self._library.split_new(self._cache, partition_count)
        if not self._splitter:
            raise MemoryError("no memory for the splitter")
        weakref.finalize(self, self._library.split_free, self._splitter)
        self._buffer = np.empty(0, np.uint8)
        self._records = (_Record * max(64, 2 * partition_count))()

    def split(self, body: NDArray[np.uint8], *, record_bytes_max: int) -> list[Part]:
        """Records of a body, each of one partition and at most ``record_bytes_max`` bytes, in the order of its series.

        Their values lie in a buffer that the next call overwrites. Raises SeriesTooLarge, and CorruptRecord for bytes
        that are no WriteRequest.
        """
        if len(body) > len(self._buffer):
            self._buffer = np.empty(2 * len(body), np.uint8)
        has_emptied = False
        while (count := self._split(body, record_bytes_max)) < 0:
            if count == _SERIES_UNASSIGNED:
                self._assign()
            elif count == _OUTPUT_FULL:
                self._records = (_Record * (2 * len(self._records)))()
            elif count == _CACHE_FULL and not has_emptied:
                has_emptied = True
                self._library.samples_cache_clear(self._cache)
            else:
                raise self._error(count, record_bytes_max)
        return [
            Part(record.partition, record.sample_count, self._buffer[record.offset : record.offset + record.length])
            for record in self._records[:count]
        ]

    def _split(self, body: NDArray[np.uint8], record_bytes_max: int) -> int:
        output = _Output(
            self._buffer.ctypes.data, ctypes.addressof(self._records), len(self._records), record_bytes_max
        )
        return int(self._library.split_body(self._splitter, body.ctypes.data, len(body), ctypes.byref(output)))

    def _assign(self) -> None:
        """Choose the partitions of the series that the last body brought."""
        first = self._library.split_assigned(self._splitter)
        end = self._library.samples_cache_count(self._cache)
        partitions = np.fromiter(
            (partition_of(read_labels(self._cache, series), self._partition_count) for series in range(first, end)),
            np.uint32,
            end - first,
        )
        if self._library.split_assign(self._splitter, partitions.ctypes.data, len(partitions)):
            raise MemoryError("no memory for the splitter")

    @staticmethod
    def _error(error: int, record_bytes_max: int) -> Exception:
        if error == _SERIES_TOO_LARGE:
            return SeriesTooLarge(f"one series holds more than {record_bytes_max} bytes, the most of a record")
        if error in BODY_ERRORS:
            return CorruptRecord(BODY_ERRORS[error])
        return MemoryError("no memory for the splitter")
