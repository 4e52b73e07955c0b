"""Which samples of a body may be stored, and the canonical block that holds them.

The work is done in C (``collector/contract/check.c``): one pass over a body whose labels are known and valid, which is
then stored byte for byte as it came; a second pass writes what is left of a body that is not.
"""

import ctypes
import functools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cramjam
import numpy as np
from numpy.typing import NDArray

from collector.contract.samples import BODY_ERRORS, BlockReader, CorruptRecord, library, new_cache

REFUSAL_REASONS: Final = (
    "metric_name_missing",
    "metric_name_invalid",
    "label_name_invalid",
    "label_not_utf8",
    "label_empty",
    "label_duplicate",
    "labels_too_many",
    "label_too_long",
    "timestamp_in_future",
    "no_samples",
)
"""Why samples are refused, in the order of the enum in check.c. Names as remote write 1.0 spells them."""

LABEL_COUNT_LIMIT: Final = 1024
"""The most labels check.c can look at; ``label_count_max`` is at most this."""

_LABEL_BYTES_A_SERIES: Final = 512
_NOTHING: Final[NDArray[np.uint8]] = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """``label_count_max`` labels a series (at most 1024), ``label_bytes_max`` bytes a name or a value."""

    label_count_max: int
    label_bytes_max: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What a body holds that may be stored. Times are ms UTC, over samples, histograms and exemplars.

    ``body`` is the canonical WriteRequest, empty when there is nothing to store (metadata only, or all refused); then
    the times mean nothing. It may lie in the checker's buffer, which the next check overwrites. ``sent_block`` is the
    sender's snappy block where that holds just this body, else empty. ``refused`` counts samples (also histograms and
    exemplars; a series without any counts one) by reason.
    """

    body: NDArray[np.uint8]
    sent_block: bytes
    sample_count: int
    exemplar_count: int
    histogram_count: int
    metadata_count: int
    timestamp_min_ms: int
    timestamp_max_ms: int
    refused: Mapping[str, int]

    @property
    def block(self) -> bytes:
        """Snappy block of ``body``; empty when there is nothing to store."""
        if self.sent_block or not len(self.body):
            return self.sent_block
        return bytes(cramjam.snappy.compress_raw(self.body.data))


class _Limits(ctypes.Structure):
    _fields_ = (
        ("timestamp_max_ms", ctypes.c_int64),
        ("label_count_max", ctypes.c_uint32),
        ("label_bytes_max", ctypes.c_uint32),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("is_canonical", ctypes.c_int64),
        ("series_count", ctypes.c_int64),
        ("sample_count", ctypes.c_int64),
        ("exemplar_count", ctypes.c_int64),
        ("histogram_count", ctypes.c_int64),
        ("metadata_count", ctypes.c_int64),
        ("timestamp_min_ms", ctypes.c_int64),
        ("timestamp_max_ms", ctypes.c_int64),
        ("refused", ctypes.c_int64 * len(REFUSAL_REASONS)),
    )


@functools.cache
def _check_library() -> ctypes.CDLL:
    loaded = library()
    loaded.samples_check.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.POINTER(_Limits),
        ctypes.POINTER(_Result),
    )
    loaded.samples_check.restype = ctypes.c_int
    loaded.samples_canonical.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.POINTER(_Limits),
        ctypes.c_void_p,
        ctypes.POINTER(_Result),
    )
    loaded.samples_canonical.restype = ctypes.c_int64
    return loaded


SERIES_BYTES_MIN: Final = 16
"""A valid TimeSeries takes at least this many bytes of a body: it has a metric name."""


class BodyChecker:
    """Checks bodies one after the other; owns a cache of valid label bytes and a buffer of ``body_bytes_max`` bytes.

    ``series_count_max`` bounds the cache; when it is full it is emptied, which costs time and nothing else.
    ``series_cache`` is its address, for those who look at the same bodies in the same thread.
    """

    def __init__(self, limits: LabelLimits, *, series_count_max: int, body_bytes_max: int) -> None:
        self._library = _check_library()
        self.series_cache = new_cache(series_count_max, label_bytes_max=series_count_max * _LABEL_BYTES_A_SERIES)
        weakref.finalize(self, self._library.samples_cache_free, self.series_cache)
        self._blocks = BlockReader(body_bytes_max)
        self._limits = _Limits(0, limits.label_count_max, limits.label_bytes_max)
        self._result = _Result()

    def check(self, block: bytes, *, timestamp_max_ms: int) -> Checked:
        """What may be stored of a sender's snappy block; samples later than ``timestamp_max_ms`` are refused.

        Raises RecordTooLarge and CorruptRecord: then nothing of it may be stored.
        """
        length = self._blocks.read(block)
        address = self._blocks.buffer.ctypes.data
        self._limits.timestamp_max_ms = timestamp_max_ms
        error = self._library.samples_check(
            self.series_cache, address, length, ctypes.byref(self._limits), ctypes.byref(self._result)
        )
        if error:
            self._raise(error)
        if self._result.is_canonical:
            return self._checked(self._blocks.buffer[:length], block) if self._result.series_count else self._checked()
        return self._checked(self._canonical_body(length))

    def _canonical_body(self, length: int) -> NDArray[np.uint8]:
        output = np.empty(length, np.uint8)
        written = self._library.samples_canonical(
            self._blocks.buffer.ctypes.data,
            length,
            ctypes.byref(self._limits),
            output.ctypes.data,
            ctypes.byref(self._result),
        )
        if written < 0:
            self._raise(written)
        return output[:written] if self._result.series_count else _NOTHING

    def _checked(self, body: NDArray[np.uint8] = _NOTHING, sent_block: bytes = b"") -> Checked:
        result = self._result
        refused = {reason: count for reason, count in zip(REFUSAL_REASONS, result.refused, strict=True) if count}
        return Checked(
            body,
            sent_block,
            result.sample_count,
            result.exemplar_count,
            result.histogram_count,
            result.metadata_count,
            result.timestamp_min_ms,
            result.timestamp_max_ms,
            refused,
        )

    @staticmethod
    def _raise(error: int) -> None:
        if error in BODY_ERRORS:
            raise CorruptRecord(BODY_ERRORS[error])
        raise MemoryError("no memory for the series cache")
