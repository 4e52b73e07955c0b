"""Folders of the tables by time, as Hive names them: ``dt=YYYY-MM-DD`` and ``hour=HH``, UTC."""

from datetime import UTC, datetime

from egpu_runtime.contract.units import SECOND_MS


def partition_values(start_ms: int, *, by_hour: bool) -> tuple[str, ...]:
    """Values of the partition columns of a day or an hour that starts at a time (ms UTC)."""
    time = datetime.fromtimestamp(start_ms / SECOND_MS, UTC)
    return (f"{time:%Y-%m-%d}", f"{time:%H}") if by_hour else (f"{time:%Y-%m-%d}",)


def partition_path(start_ms: int, *, by_hour: bool) -> str:
    """The folder of a day or an hour, under its table's."""
    values = partition_values(start_ms, by_hour=by_hour)
    return "/".join(f"{name}={value}" for name, value in zip(("dt", "hour"), values, strict=False))


def partition_start_ms(path: str, *, by_hour: bool) -> int | None:
    """Start of the day or hour that a folder's path ends in, None for any other folder."""
    text = "/".join(path.split("/")[-2 if by_hour else -1 :])
    try:
        time = datetime.strptime(text, "dt=%Y-%m-%d/hour=%H" if by_hour else "dt=%Y-%m-%d")
    except ValueError:
        return None
    start_ms = int(time.replace(tzinfo=UTC).timestamp()) * SECOND_MS
    # Another spelling of the time is another folder.
    return start_ms if partition_path(start_ms, by_hour=by_hour) == text else None
