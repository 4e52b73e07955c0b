"""Settings of ``egpu-pipeline``."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from collector.contract.topic import TOPIC_DEFAULT
from egpu_runtime.contract.configuration import ProcessSettings


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(ProcessSettings):
    """What ``egpu-pipeline`` can be told."""

    source: Literal["sqlite", "kafka", "windows"] = "sqlite"
    """Which log is read: ``sqlite``, the folder given by --log, or ``kafka``, a topic. ``windows`` is for ``finalise``:
    the hours are those the Flink job has committed, and the topic is read only for what came late. Default sqlite."""

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
    ones are counted too_late. Series windows of the Flink job are kept so long after their hour. Default 86400 (one
    day), well within the log's retention."""

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

    finalise_every_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """With --source windows, ``finalise`` goes on until told to stop and looks for committed hours every so many
    seconds. Default 0: it looks once."""

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

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers to ask first, HOST:PORT with commas between. Default 127.0.0.1:9092."""

    kafka_topic: str = TOPIC_DEFAULT
    """Topic that is the log. Default egpu-samples."""

    kafka_properties: dict[str, str] = field(default_factory=dict)
    """Further librdkafka properties by name, a table: ``security.protocol``, ``sasl.*``, ``ssl.*``, ``group.id`` and
    the like. Those that reading rests on cannot be set here. Default none."""

    kafka_silence_seconds_max: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds without an answer of the brokers after which a run ends with an error; with --follow it waits on, and
    says so as often. Default 30: a broker that starts anew is back by then."""

    flink_rest_url: str = "http://127.0.0.1:8081"
    """Address of the REST API of Flink's JobManager. Default http://127.0.0.1:8081, Flink's own port."""

    flink_jar: str = ""
    """File of the job's jar, which ``submit`` uploads. Default none: ``deploy/engines/engines.py jar`` builds it and
    prints its path."""

    flink_job_name: str = "egpu-series-windows"
    """Name of the job; one of this name runs at a time. Default egpu-series-windows."""

    flink_parallelism: Annotated[int, Meta(ge=1, le=32_768)] = 1
    """Slots the job takes, count. Default 1: some hundred thousand samples a second."""

    flink_checkpoint_directory: str = ""
    """Address, as Flink reads it (``file:///...``, ``s3://...``), under which the job's checkpoints and savepoints are
    kept. Default none: a folder of the job's name where the cluster keeps its checkpoints."""

    flink_checkpoint_seconds: Annotated[int, Meta(ge=1)] = 60
    """Seconds between checkpoints; rows are visible as series windows from the next one on. Default 60: each writes a
    file per hour and slot."""

    flink_idle_seconds: Annotated[int, Meta(ge=1)] = 120
    """Seconds without a record after which a partition no longer holds back the others' hours. Default 120: several
    scrapes."""

    flink_kafka_properties: dict[str, str] = field(default_factory=dict)
    """Properties by name of Kafka's Java client in the job, a table: ``security.protocol``, ``sasl.jaas.config`` and
    the like. They are part of the job's SQL, which whoever may use Flink's REST API can read. Default none."""

    flink_settings: dict[str, str] = field(default_factory=dict)
    """Settings of Flink for the job by name, a table, as ``restart-strategy.type``. Default none: the cluster's."""

    hive_conf_directory: str = ""
    """Folder of hive-site.xml on the machines of Flink; the metastore's address is in it. Default none: ``submit`` asks
    for it."""

    hive_database: str = "default"
    """Name of the database of the tables in Hive. Default ``default``."""
