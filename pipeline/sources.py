"""Which log is read: the folder of SQLite files, or the topic of the settings."""

import threading
from pathlib import Path

from egpu_runtime.contract.process import Failure
from pipeline.reading import Log
from pipeline.settings import PipelineSettings
from pipeline.silence import Waiting
from pipeline.source_kafka import KafkaLog
from pipeline.source_sqlite import SqliteLog
from pipeline.topic_record import Topic


def open_log(folder: Path | None, settings: PipelineSettings, *, follow: bool, stop: threading.Event) -> Log:
    """The log that ``settings.source`` names; ``folder`` is that of ``sqlite``. Raises Failure where it is missing.
    Behind ``windows`` is the topic, or the folder where one is given.

    With ``follow`` a broker that does not answer is waited for until ``stop`` is set, else for
    ``kafka_silence_seconds_max``.
    """
    if settings.source == "kafka" or (settings.source == "windows" and folder is None):
        topic = Topic(settings.kafka_bootstrap_servers, settings.kafka_topic, settings.kafka_properties)
        return KafkaLog(topic, Waiting(follow, stop, settings.kafka_silence_seconds_max))
    if folder is None:
        raise Failure("missing option --log")
    return SqliteLog(folder)
