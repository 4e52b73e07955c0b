"""The topic of records that the job cannot read: it is made before the job starts, for Flink makes none."""

import logging
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from collector.contract.topic import RECORD_BYTES_MAX
from egpu_runtime.contract.process import Failure
from pipeline.topic_record import Topic

_ANSWER_SECONDS_MAX: Final = 15.0
_CLIENT_LOG: Final = logging.getLogger("egpu-pipeline.kafka")
"""What the client library says of lost connections; we say it in a sentence of our own."""


def ensure_dead_letters(topic: Topic) -> None:
    """Make the topic where it is missing: one partition, kept as long as the brokers keep by default.

    Raises Failure where the brokers do not answer or refuse.
    """
    try:
        ours: dict[str, Any] = {"bootstrap.servers": topic.bootstrap_servers, "logger": _CLIENT_LOG}
        admin = AdminClient({**topic.properties, **ours})
        new = NewTopic(topic.name, 1, config={"max.message.bytes": str(RECORD_BYTES_MAX)})
        (made,) = admin.create_topics([new], request_timeout=_ANSWER_SECONDS_MAX).values()
        made.result(2 * _ANSWER_SECONDS_MAX)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise Failure(
                f"Kafka at {topic.bootstrap_servers} did not make the topic {topic.name}: {reason.str()}"
            ) from error
