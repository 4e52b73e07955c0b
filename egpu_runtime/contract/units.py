"""Units and grains every stage shares: bytes, milliseconds UTC, shares of one card."""

from typing import Final

MIB: Final = 1 << 20
"""Bytes in one MiB, the grain of every GPU memory quota."""

GIB: Final = 1 << 30
"""Bytes in one GiB."""

SECOND_MS: Final = 1_000
"""Milliseconds in a second."""

MINUTE_MS: Final = 60_000
"""Milliseconds in a minute."""

HOUR_MS: Final = 3_600_000
"""Milliseconds in an hour: the unit in which tables are finalised."""

DAY_MS: Final = 86_400_000
"""Milliseconds in a day (UTC; no leap seconds, as in POSIX time)."""

STALE_MARKER_BITS: Final = 0x7FF0_0000_0000_0002
"""IEEE 754 bits of the sample that ends a series (Prometheus model/value/value.go)."""


def snap_up(amount: float, grain: int) -> int:
    """The smallest multiple of ``grain`` that is at least ``amount`` (same unit as ``grain``, both >= 0)."""
    return int(-(-amount // grain)) * grain


def floor_ms(timestamp_ms: int, step_ms: int) -> int:
    """Start of the window of ``step_ms`` that holds ``timestamp_ms``; windows are [start, end) from the epoch."""
    return timestamp_ms - timestamp_ms % step_ms
