"""Settings of ``egpu-pipeline``."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from egpu_runtime.contract.configuration import ProcessSettings


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(ProcessSettings):
    """What ``egpu-pipeline`` can be told."""

    window_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    """Length of a window, seconds; must divide an hour. Default 300: what the tables are named after."""

    sample_interval_seconds: Annotated[float, Meta(gt=0)] = 15.0
    """Scrape interval of the exporters, seconds; observed_ratio = distinct sample times x this / window. Default 15,
    as Prometheus is usually set for GPU exporters."""

    lateness_seconds: Annotated[int, Meta(ge=0)] = 300
    """How far behind the newest sample others may be before their hour is closed, seconds. Default 300: shards of one
    sender stay within a few minutes of each other; what comes later is merged."""

    idle_close_seconds: Annotated[int, Meta(ge=1)] = 1800
    """With --follow, open hours are closed after so many seconds without a record. Default 1800: a pause of a sender
    is shorter, and a stopped one must not hide its last hour."""

    late_accept_seconds: Annotated[int, Meta(ge=0)] = 86_400
    """A sample is merged into its hour if it was received at most so many seconds after the hour's first one; later
    ones are counted too_late. Default 86400 (one day), well within the log's retention."""

    merge_seconds: Annotated[int, Meta(ge=1)] = 300
    """With --follow, late samples are merged at most every so many seconds. Default 300: merging reads the log."""

    poll_seconds: Annotated[float, Meta(gt=0)] = 1.0
    """With --follow, pause in seconds before the log is asked again when nothing new was there. Default 1."""

    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 10.0
    """While hours are closed, the place in the log is written at most every so many seconds. Default 10: what is read
    again after a kill is bounded by it, and each write costs two fsyncs."""

    cluster_default: str = "default"
    """Cluster name of series that carry no cluster label. Default ``default``; the tables need one as key."""

    open_samples_max: Annotated[int, Meta(ge=1)] = 40_000_000
    """Samples held in memory for hours not yet closed, count; above it the oldest hour is closed early and its later
    samples are merged. Default 40 million: 0.64 GB."""

    series_count_max: Annotated[int, Meta(ge=1)] = 1_000_000
    """Series the reader keeps in its cache, count; above it the cache starts afresh. Default 1 million: 1.5 GB."""

    batch_samples_max: Annotated[int, Meta(ge=1)] = 262_144
    """Samples decoded into one batch before it is handed on, count. Default 262144: 5 MB."""

    table_retention_days: Annotated[int, Meta(ge=0)] = 0
    """Days of finalised tables that are kept, counted back from the newest hour; 0 keeps all. Default 0."""

    hive_answer_seconds: Annotated[float, Meta(gt=0)] = 120.0
    """Longest wait for one answer of HiveServer2, seconds; a query's own time is not bounded by it. Default 120: a busy
    server may need a minute to compile a statement."""

    hive_query_seconds: Annotated[float, Meta(gt=0)] = 3600.0
    """Longest query on HiveServer2, seconds; then it is cancelled. Default 3600."""

    accept_gap: bool = False
    """On: go on after records that the log's retention removed before they were read, and with another log than the
    warehouse was made from: hours made so far then stay as they are (samples for them are too late), and the new log is
    read from its start. What was lost is kept by name. Default off: lost samples are an error that a person should
    see."""
