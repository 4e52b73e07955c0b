"""The job as SQL: samples of the log to one row a series and window, what came late, what could not be read.

Generated from the tables of ``pipeline.contract`` and from the rules by which series are read; what the functions do is
in ``java/egpu``. The script runs as one job by ``egpu.SqlJob``; the log is read once for its three outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from collector.contract.topic import RECORD_BYTES_MAX, TOPIC_DEFAULT
from egpu_runtime.contract.units import HOUR_MS, SECOND_MS
from pipeline.contract.tables import LATE_SAMPLES, SERIES_WINDOWS, Column, Table
from pipeline.flink.series_table import series_table, series_table_text
from pipeline.hours import FUTURE_MS_MAX

DEAD_LETTER_SUFFIX: Final = "-dead-letter"
"""The topic of records that could not be read is named after the log's; it has to exist."""

_FETCH_BYTES: Final = 16 << 20
"""What one answer of a broker may bring, as compressed; a record may have 4 MiB."""

_POLL_RECORDS: Final = 8
"""Records that the reader takes at a time. A record is a whole batch, and some takes wait in memory, decompressed: with
Kafka's default of 500 a backlog of large batches fills a heap of 1 GiB."""

_DRIFT_SECONDS: Final = 600
"""How far a partition may be read ahead of the others, in sample time: after an outage each would be read to its end
at its own speed, and the windows of all that time would be open at once. No hour closes later for it."""

_CLOCK_MS: Final = 3_600_000
"""How far a broker's clock may be behind this machine's. Samples of a further future are dropped when they are read, so
that they cannot open windows that never close."""

_FUNCTIONS: Final[Mapping[str, str]] = {
    "window_rollup": "egpu.WindowRollup",
    "comes_late": "egpu.ComesLate",
    "epoch_millis": "egpu.EpochMillis",
}


def _interval(seconds: int) -> str:
    """Days and a time of day: Flink takes no more than 99 of a single unit."""
    days, rest = divmod(seconds, 86_400)
    return f"INTERVAL '{days} {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}' DAY TO SECOND"


_IN_TIME: Final = f"ts <= received + {_interval(FUTURE_MS_MAX // SECOND_MS)}"


@dataclass(frozen=True, kw_only=True)
class JobRules:
    """What the job is told. ``kafka_properties`` are those of Kafka's Java client, ``flink_settings`` any of Flink's;
    ``bounded`` ends the job at the log's present end."""

    bootstrap_servers: str
    hive_conf_dir: str
    hive_database: str = "default"
    topic: str = TOPIC_DEFAULT
    group: str = "egpu-flink"
    window_seconds: int = 300
    lateness_seconds: int = 300
    idle_seconds: int = 120
    checkpoint_seconds: int = 60
    series_count_max: int = 300_000
    kafka_properties: Mapping[str, str] = field(default_factory=dict)
    flink_settings: Mapping[str, str] = field(default_factory=dict)
    bounded: bool = False


def job_script(rules: JobRules) -> str:
    """The script: settings, functions, the log, the dead letters, Hive, and three INSERTs of one statement set."""
    statements = [
        *_settings(rules),
        *(f"CREATE TEMPORARY FUNCTION {name} AS {_quoted(of)} LANGUAGE JAVA" for name, of in _FUNCTIONS.items()),
        samples_ddl(rules),
        _dead_letter_ddl(rules),
        _catalog(rules),
        windows_insert(rules, _hive(rules, SERIES_WINDOWS)),
        late_insert(rules, _hive(rules, LATE_SAMPLES)),
        "INSERT INTO dead_letters\nSELECT corrupt FROM samples WHERE corrupt IS NOT NULL",
    ]
    return ";\n\n".join(statements) + ";\n"


def _settings(rules: JobRules) -> list[str]:
    settings = {
        # Rows are handed on within a task without a copy.
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "table.exec.source.idle-timeout": f"{rules.idle_seconds} s",
        "execution.checkpointing.interval": f"{rules.checkpoint_seconds} s",
        **rules.flink_settings,
    }
    return [f"SET {_quoted(name)} = {_quoted(value)}" for name, value in settings.items()]


def samples_ddl(rules: JobRules) -> str:
    """The log as a table of samples. Only what is used is declared: every column costs a value for each sample.

    A sample that is further ahead of its record's arrival than an hour may wait must not move the watermark.
    """
    options = {
        **_kafka(rules, rules.topic),
        "properties.group.id": rules.group,
        "properties.fetch.max.bytes": str(_FETCH_BYTES),
        "properties.max.partition.fetch.bytes": str(RECORD_BYTES_MAX),
        "properties.max.poll.records": str(_POLL_RECORDS),
        "scan.startup.mode": "earliest-offset",
        **(_BOUNDED if rules.bounded else _aligned(rules)),
        "format": "remote-write",
        "remote-write.series-table": series_table_text(series_table()),
        "remote-write.series-max": str(rules.series_count_max),
        "remote-write.series-window": f"{rules.window_seconds} s",
        "remote-write.future-max": f"{FUTURE_MS_MAX + _CLOCK_MS} ms",
        "remote-write.on-corrupt": "row",
    }
    columns = (
        "ts TIMESTAMP_LTZ(3)",
        "`value` DOUBLE",
        "series_id BIGINT",
        "series STRING",
        "corrupt BYTES",
        "log_partition INT METADATA FROM 'partition' VIRTUAL",
        "log_offset BIGINT METADATA FROM 'offset' VIRTUAL",
        "received TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
        f"WATERMARK FOR ts AS CASE WHEN {_IN_TIME} THEN ts - {_interval(rules.lateness_seconds)} END",
    )
    return _create("samples", columns, options)


_BOUNDED: Final = {"scan.bounded.mode": "latest-offset"}
"""Without alignment: the source would pause a partition that it has just read to its end and given away, and fail
("No current assignment for partition")."""


def _aligned(rules: JobRules) -> dict[str, str]:
    return {
        "scan.watermark.alignment.group": rules.group,
        "scan.watermark.alignment.max-drift": f"{_DRIFT_SECONDS} s",
        "scan.watermark.alignment.update-interval": "200 ms",
    }


def _dead_letter_ddl(rules: JobRules) -> str:
    options = {
        **_kafka(rules, f"{rules.topic}{DEAD_LETTER_SUFFIX}"),
        "properties.max.request.size": str(2 * RECORD_BYTES_MAX),
        "format": "raw",
    }
    return _create("dead_letters", ("corrupt BYTES",), options)


def _kafka(rules: JobRules, topic: str) -> dict[str, str]:
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": rules.bootstrap_servers,
        **{f"properties.{name}": value for name, value in rules.kafka_properties.items()},
    }


def _catalog(rules: JobRules) -> str:
    options = {
        "type": "hive",
        "hive-conf-dir": rules.hive_conf_dir,
        "hive-version": "3.1.3",
        "default-database": rules.hive_database,
    }
    return f"CREATE CATALOG hive WITH (\n{_listed(options)}\n)"


def _hive(rules: JobRules, table: Table) -> str:
    return f"hive.`{rules.hive_database}`.{table.name}"


def windows_insert(rules: JobRules, sink: str) -> str:
    """Every column of the series windows is a field of the rollup, but the window itself and its partition.

    A value from too far ahead is no sample, yet its row names the series for those that follow in the window.
    """
    length = "" if rules.window_seconds == _WINDOW_SECONDS else f", {rules.window_seconds * SECOND_MS}"
    columns = ",\n  ".join(_window_column(column) for column in SERIES_WINDOWS.columns)
    return f"""INSERT INTO {sink}
SELECT
  {columns},
  DATE_FORMAT(window_start, 'yyyy-MM-dd'),
  DATE_FORMAT(window_start, 'HH')
FROM (
  SELECT window_start, window_rollup(ts, CASE WHEN {_IN_TIME} THEN `value` END, series{length}) AS rolled
  FROM TABLE(TUMBLE(TABLE samples, DESCRIPTOR(ts), {_interval(rules.window_seconds)}))
  WHERE series_id IS NOT NULL
  GROUP BY window_start, window_end, series_id
)
WHERE rolled.sample_count > 0"""


_WINDOW_SECONDS: Final = 300
"""What ``window_rollup`` takes a window to be when it is not told."""


def _window_column(column: Column) -> str:
    if column.aggregate == "window":
        return "epoch_millis(CAST(window_start AS TIMESTAMP_LTZ(3)))"
    return f"rolled.{column.name}"


def late_insert(rules: JobRules, sink: str) -> str:
    """One row a sample whose window has been closed: where its record lies in the log, and for which hour it is."""
    window_ms, lateness_ms = rules.window_seconds * SECOND_MS, rules.lateness_seconds * SECOND_MS
    values = {
        "segment": "CAST(log_partition AS BIGINT)",
        "row": "log_offset + 1",
        "window_start_ms": f"epoch_millis(ts) / {HOUR_MS} * {HOUR_MS}",
        "received_ms": "epoch_millis(received)",
        "sample_count": "CAST(1 AS BIGINT)",
        "decision": "'pending'",
    }
    columns = ",\n  ".join(values[column.name] for column in LATE_SAMPLES.columns)
    late = f"comes_late(ts, CURRENT_WATERMARK(ts), received, {window_ms}, CAST({lateness_ms} AS BIGINT))"
    return (
        f"INSERT INTO {sink}\nSELECT\n  {columns}\nFROM samples\nWHERE series_id IS NOT NULL AND {_IN_TIME} AND {late}"
    )


def _create(name: str, columns: tuple[str, ...], options: Mapping[str, str]) -> str:
    body = ",\n  ".join(columns)
    return f"CREATE TEMPORARY TABLE {name} (\n  {body}\n) WITH (\n{_listed(options)}\n)"


def _listed(options: Mapping[str, str]) -> str:
    return ",\n".join(f"  {_quoted(name)} = {_quoted(value)}" for name, value in options.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
