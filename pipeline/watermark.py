"""When an hour is closed for the first time: only when, for late samples are merged and rows do not depend on it."""

from collections.abc import Iterable

from egpu_runtime.contract.units import HOUR_MS, floor_ms


def closed_until(newest_ms: int, lateness_ms: int) -> int:
    """End of the newest hour that is over when the newest sample seen is at ``newest_ms`` (ms UTC)."""
    return floor_ms(newest_ms - lateness_ms, HOUR_MS)


def due(open_hours: Iterable[int], closed_until_ms: int) -> list[int]:
    """Open hours (starts, ms) that are over, oldest first."""
    return sorted(hour_ms for hour_ms in open_hours if hour_ms + HOUR_MS <= closed_until_ms)
