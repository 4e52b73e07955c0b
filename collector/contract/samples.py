"""Decoder of log records: the same C code checks what the collector accepts and reads what the pipeline rolls up.

The C library is ``libsamples.so`` beside this file (not ``samples.so``: Python would import that as this module).
A wheel carries it built; a checkout builds it with ``python hatch_build.py``. It is plain C
called through ctypes, so the GIL is free meanwhile.
"""

import ctypes
import functools
import weakref
from dataclasses import dataclass
from typing import Final

import cramjam
import numpy as np
from numpy.typing import NDArray

LIBRARY_PATH: Final = f"{__file__.rpartition('/')[0]}/libsamples.so"
"""Where the built decoder lies."""

_CACHE_FULL: Final = -7
_OUTPUT_FULL: Final = -8
_NO_MEMORY: Final = -9

BODY_ERRORS: Final = {
    -1: "a length points past the end",
    -2: "a number has more than 64 bits",
    -3: "a group or an unknown wire type",
    -4: "a field number out of range",
    -5: "a label stands after a sample",
    -6: "a label is not UTF-8",
}
"""Error numbers of ``samples.h`` that mean the bytes are no valid body."""

_LABEL_BYTES_A_SERIES: Final = 512
"""Memory for label bytes is bounded by this mean per series; 12 labels of Kubernetes take about 355."""


class CorruptRecord(Exception):  # noqa: N818 - reads as the sentence "raise CorruptRecord(why)"
    """The bytes are not a snappy block of a WriteRequest within the limits; the message says what is wrong."""


class RecordTooLarge(CorruptRecord):
    """The block declares more bytes than the limit; no memory was taken for it."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one record in the order they were sent; three columns of equal length.

    ``value`` carries the sender's 64 bits, so a stale marker survives; look at it through ``value.view(np.int64)``
    before any arithmetic. ``series`` counts from 0 within the decoder's generation.
    """

    series: NDArray[np.int32]
    timestamp_ms: NDArray[np.int64]
    value: NDArray[np.float64]


class _Output(ctypes.Structure):
    """``struct samples_output`` of samples.c."""

    _fields_ = (
        ("series", ctypes.c_void_p),
        ("timestamp_ms", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("exemplar_count", ctypes.c_int64),
        ("histogram_count", ctypes.c_int64),
        ("metadata_count", ctypes.c_int64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The C library with its signatures declared. Raises ImportError with one sentence when it is not built."""
    try:
        loaded = ctypes.CDLL(LIBRARY_PATH)
    except OSError as error:
        raise ImportError("the decoder is not built: run python hatch_build.py") from error
    loaded.samples_cache_new.argtypes = (ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint64)
    loaded.samples_cache_new.restype = ctypes.c_void_p
    loaded.samples_cache_free.argtypes = (ctypes.c_void_p,)
    loaded.samples_cache_free.restype = None
    loaded.samples_cache_clear.argtypes = (ctypes.c_void_p,)
    loaded.samples_cache_clear.restype = None
    loaded.samples_cache_count.argtypes = (ctypes.c_void_p,)
    loaded.samples_cache_count.restype = ctypes.c_uint32
    loaded.samples_cache_labels.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_uint32),
    )
    loaded.samples_cache_labels.restype = ctypes.c_int64
    loaded.samples_decode.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(_Output))
    loaded.samples_decode.restype = ctypes.c_int64
    return loaded


def new_cache(series_count_max: int, *, label_bytes_max: int) -> int:
    """Address of an empty series cache; the caller frees it with ``samples_cache_free``.

    The hash is seeded with Python's own secret of the process, so that a sender cannot aim at one slot.
    """
    seed = hash(b"series") & 0xFFFF_FFFF_FFFF_FFFF
    cache: int | None = library().samples_cache_new(series_count_max, label_bytes_max, seed)
    if cache is None:
        raise MemoryError("no memory for the series cache")
    return cache


def read_labels(cache: int, series: int) -> tuple[tuple[str, str], ...]:
    """Labels of a series that a cache holds, sorted by name; ``series`` is below ``samples_cache_count``."""
    start = ctypes.c_void_p()
    length = ctypes.c_uint32()
    capacity = 64
    while True:
        parts = (ctypes.c_uint32 * (4 * capacity))()
        count = library().samples_cache_labels(
            cache, series, parts, capacity, ctypes.byref(start), ctypes.byref(length)
        )
        if count <= capacity:
            break
        capacity = count
    text = ctypes.string_at(start, length.value) if length.value else b""
    numbers = parts[: 4 * count]
    return tuple(
        sorted(
            (text[name : name + name_length].decode(), text[value : value + value_length].decode())
            for name, name_length, value, value_length in zip(
                numbers[0::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True
            )
        )
    )


class BlockReader:
    """Decompresses snappy blocks into one buffer of its own that grows up to ``body_bytes_max`` (bytes)."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self.buffer: NDArray[np.uint8] = np.empty(1, np.uint8)

    def read(self, block: bytes) -> int:
        """Fill ``buffer`` with the body of ``block`` and return its length in bytes.

        The declared size is checked before memory is taken. Raises RecordTooLarge and CorruptRecord.
        """
        if not block:
            raise CorruptRecord("not a snappy block: no bytes")
        try:
            length: int = cramjam.snappy.decompress_raw_len(block)
            if length > self._body_bytes_max:
                raise RecordTooLarge(f"declares {length} bytes, more than body_bytes_max {self._body_bytes_max}")
            if length > len(self.buffer):
                self.buffer = np.empty(min(2 * length, self._body_bytes_max), np.uint8)
            written: int = cramjam.snappy.decompress_raw_into(block, self.buffer.data)
        except cramjam.DecompressionError as error:
            raise CorruptRecord(f"not a snappy block: {error}") from error
        if written != length:
            raise CorruptRecord(f"snappy block declares {length} bytes and holds {written}")
        return length

    def take(self, body: bytes) -> int:
        """Fill ``buffer`` with a body that is not compressed and return its length in bytes. Raises RecordTooLarge."""
        length = len(body)
        if length > self._body_bytes_max:
            raise RecordTooLarge(f"has {length} bytes, more than body_bytes_max {self._body_bytes_max}")
        if length > len(self.buffer):
            self.buffer = np.empty(min(2 * length, self._body_bytes_max), np.uint8)
        self.buffer[:length] = np.frombuffer(body, np.uint8)
        return length


class SampleDecoder:
    """The reader's side of the log. One per thread: it owns a series cache and its buffers.

    ``series_count_max`` bounds the cache: when a record would pass it, the cache is emptied, ids start again at 0 and
    ``generation`` is one more. ``body_bytes_max`` bounds the decompressed record, bytes. Histograms, exemplars and
    metadata are skipped and counted in ``histogram_count``, ``exemplar_count`` and ``metadata_count``.
    """

    def __init__(self, *, series_count_max: int = 2_000_000, body_bytes_max: int = 64 << 20) -> None:
        label_bytes_max = max(series_count_max * _LABEL_BYTES_A_SERIES, body_bytes_max)
        self._cache = new_cache(series_count_max, label_bytes_max=label_bytes_max)
        weakref.finalize(self, library().samples_cache_free, self._cache)
        self._blocks = BlockReader(body_bytes_max)
        self._labels: list[tuple[tuple[str, str], ...]] = []
        self._output = _Output()
        self._columns: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]
        self._enlarge(4096)
        self.generation = 0
        self.histogram_count = 0
        self.exemplar_count = 0
        self.metadata_count = 0

    @property
    def series_count(self) -> int:
        """Series known in this generation; their ids are 0 to ``series_count - 1``."""
        return int(library().samples_cache_count(self._cache))

    def decode(self, block: bytes) -> Samples:
        """Samples of all series of a log record, in order.

        ``block`` is a snappy block of a WriteRequest whose labels stand before the samples. Raises CorruptRecord;
        series that were met before the fault stay known.
        """
        return self._decode_all(self._blocks.read(block))

    def decode_body(self, body: bytes) -> Samples:
        """As :meth:`decode`, of a WriteRequest that is not compressed."""
        return self._decode_all(self._blocks.take(body))

    def _decode_all(self, length: int) -> Samples:
        """Samples of the body in the first ``length`` bytes of the buffer."""
        emptied = False
        while (count := self._decode_body(length)) < 0:
            if count == _OUTPUT_FULL:
                self._enlarge(2 * self._output.capacity)
            elif count == _CACHE_FULL and not emptied:
                emptied = True
                library().samples_cache_clear(self._cache)
                self._labels.clear()
                self.generation += 1
            elif count == _CACHE_FULL:
                raise CorruptRecord("one record holds more series than series_count_max")
            elif count == _NO_MEMORY:
                raise MemoryError("no memory for the series cache")
            else:
                raise CorruptRecord(BODY_ERRORS[count])
        self.histogram_count += self._output.histogram_count
        self.exemplar_count += self._output.exemplar_count
        self.metadata_count += self._output.metadata_count
        series, timestamp_ms, value = self._columns
        return Samples(series[:count].copy(), timestamp_ms[:count].copy(), value[:count].copy())

    def labels(self, series: int) -> tuple[tuple[str, str], ...]:
        """Labels of a series of this generation, sorted by name, ``__name__`` among them. IndexError when unknown."""
        known = self._labels
        if not 0 <= series < self.series_count:
            raise IndexError(f"series {series} is not known in generation {self.generation}")
        while len(known) <= series:
            known.append(read_labels(self._cache, len(known)))
        return known[series]

    def _decode_body(self, length: int) -> int:
        address = self._blocks.buffer.ctypes.data
        return int(library().samples_decode(self._cache, address, length, ctypes.byref(self._output)))

    def _enlarge(self, capacity: int) -> None:
        series = np.empty(capacity, np.int32)
        timestamp_ms = np.empty(capacity, np.int64)
        value = np.empty(capacity, np.float64)
        self._columns = (series, timestamp_ms, value)
        self._output.series = series.ctypes.data
        self._output.timestamp_ms = timestamp_ms.ctypes.data
        self._output.value = value.ctypes.data
        self._output.capacity = capacity
