"""The Kafka log when Kafka is not well: away, slow, gone, made anew, refusing, set so that samples would be lost."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from collector_bodies import series, snappy, up
from collector_process import Collector, running
from collector_stores import PARTITIONS, Broker, samples_of, wait_for_status
from confluent_kafka import Consumer, Producer, TopicPartition
from test_collector_conformance import Sender, body, check_all_is_there, samples_in

from collector.intake import LogUnavailable, NewRecord
from collector.log_kafka import KafkaLog
from collector.settings import CollectorSettings
from collector.validation import BodyChecker, LabelLimits

pytestmark = pytest.mark.end_to_end
NOW_MS = int(time.time() * 1000)
ACCOUNT_FLAGS = ("--kafka-start-seconds-max", 5)


class Kafka:
    """A topic as the log under test."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.broker, self.topic = broker, topic

    def flags(self, *more: object) -> list[object]:
        return [*self.broker.flags(self.topic), "--kafka-partition-count", PARTITIONS, *more]

    def read(self) -> list:
        return self.broker.read(self.topic)


@pytest.fixture
def kafka(broker: Broker, topic: str) -> Kafka:
    return Kafka(broker, topic)


def check_refused_at_start(flags: list[object], expected: str) -> None:
    """The collector says one line and ends with code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "collector", "serve", "--listen-port", "0", *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"error: {expected}"


# ---- away and back ----


def test_what_was_acknowledged_outlives_kill_9_of_the_broker(kafka: Kafka, tmp_path: Path) -> None:
    count, acknowledged = 120, []
    with running(tmp_path, *kafka.flags()) as collector:
        senders = [Sender(lambda: collector.port, list(range(start, count, 3)), acknowledged) for start in range(3)]
        for sender in senders:
            sender.start()
        while len(acknowledged) < 40:
            time.sleep(0.002)
        kafka.broker.kill()
        started = time.monotonic()
        assert "Kafka" in wait_for_status(collector, "/readyz", 503)
        answer = collector.post(body(count))
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert time.monotonic() - started < 5
        assert collector.ask("GET", "/healthz").status == 200
        kafka.broker.start()
        for sender in senders:
            sender.join()
        assert {status for sender in senders for status in sender.statuses} <= {204, 503}
        wait_for_status(collector, "/readyz", 200)
    assert collector.output.read_text().count("unavailable") <= 6
    check_all_is_there(kafka, count, repeated_max=3)


def test_a_broker_that_hangs_answers_503_in_time_and_recovers(kafka: Kafka, tmp_path: Path) -> None:
    with running(tmp_path, *kafka.flags("--kafka-delivery-seconds-max", 2)) as collector:
        assert collector.post(body(0)).status == 204
        with kafka.broker.paused():
            started = time.monotonic()
            answer = collector.post(body(1))
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
            assert answer.text == "Kafka did not acknowledge in 2 s\n"
            assert time.monotonic() - started < 4
            started = time.monotonic()
            assert collector.post(body(2)).status == 503
            assert time.monotonic() - started < 0.5
        wait_for_status(collector, "/readyz", 200)
        assert [collector.post(body(number)).status for number in (1, 2)] == [204, 204]
    check_all_is_there(kafka, 3, repeated_max=2)


def test_a_full_queue_answers_503_and_no_body_is_taken_in_part(kafka: Kafka, tmp_path: Path) -> None:
    acknowledged: list[int] = []
    flags = kafka.flags("--kafka-queue-bytes-max", 3000, "--kafka-delivery-seconds-max", 10)
    with running(tmp_path, *flags) as collector:
        assert collector.post(body(100)).status == 204
        senders = [Sender(lambda: collector.port, [number], acknowledged) for number in range(3)]
        with kafka.broker.paused():
            for sender in senders:
                sender.start()
            time.sleep(1.0)
            answers = {collector.post(body(number)).text for number in range(3, 6)}
            assert answers == {"the queue to Kafka is full\n"}
        for sender in senders:
            sender.join()
    stored = {ms for _, ms, _ in samples_of(kafka.read())}
    assert stored == {ms for number in (0, 1, 2, 100) for _, ms, _ in samples_in(body(number))}


def test_the_collector_starts_before_the_broker(kafka: Kafka, tmp_path: Path) -> None:
    kafka.broker.kill()
    flags = [sys.executable, "-m", "collector", "serve", "--listen-port", "0"]
    flags += ["--port-file", str(tmp_path / "port"), *map(str, kafka.flags("--kafka-start-seconds-max", 60))]
    process = subprocess.Popen(flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(2)
        assert process.poll() is None
        kafka.broker.start()
        deadline = time.monotonic() + 30
        while not (tmp_path / "port").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "does not answer: " in errors
    assert len(errors.splitlines()) < 6


def test_no_broker_is_one_line() -> None:
    flags = ["--log", "kafka", "--kafka-bootstrap-servers", "127.0.0.1:1", "--kafka-start-seconds-max", 1.5]
    reason = "Connect to ipv4#127.0.0.1:1 failed: Connection refused"
    check_refused_at_start(flags, f"Kafka at 127.0.0.1:1 does not answer: {reason}")


def test_sigterm_while_the_broker_hangs_gives_up_in_time(kafka: Kafka, tmp_path: Path) -> None:
    collector = Collector(tmp_path, *kafka.flags("--kafka-delivery-seconds-max", 3))
    answers: list[int] = []
    with kafka.broker.paused():
        sender = threading.Thread(target=lambda: answers.append(collector.post(body(0)).status))
        sender.start()
        time.sleep(0.5)
        started = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - started < 6
        sender.join()
    assert answers == [503]


def test_a_producer_that_is_done_for_is_replaced(kafka: Kafka) -> None:
    """librdkafka's fatal errors cannot be provoked from outside; what follows one can."""
    settings = CollectorSettings(
        kafka_bootstrap_servers=kafka.broker.bootstrap, kafka_topic=kafka.topic, maintenance_seconds=0.05
    )
    block = up(1, (NOW_MS, 1.0))
    record, content = NewRecord(bytes(16), 1, NOW_MS, NOW_MS, b""), np.frombuffer(block, np.uint8)
    log = KafkaLog(settings, BodyChecker(LabelLimits(10, 100), series_count_max=10, body_bytes_max=1000))
    with closing(log):
        log.append(record, content).result(timeout=10)
        first = log._producer
        log._is_fatal = True
        log._lose("Kafka: fenced")
        with pytest.raises(LogUnavailable, match="fenced"):
            log.append(record, content).result(timeout=10)
        deadline = time.monotonic() + 10
        while log.unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert log._producer is not first
        log.append(record, content).result(timeout=10)
    assert len(samples_of(kafka.read())) == 2


# ---- the topic ----


def test_a_missing_topic_is_made_with_settings_that_lose_nothing(kafka: Kafka, tmp_path: Path) -> None:
    with running(tmp_path, *kafka.flags("--kafka-retention-seconds", 7200)):
        found = kafka.broker.settings_of(kafka.topic)
    assert {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": "7200000",
        "retention.bytes": "-1",
        "max.message.bytes": "4194304",
    }.items() <= found.items()


def test_a_missing_topic_is_refused_where_it_may_not_be_made(kafka: Kafka) -> None:
    expected = f"topic {kafka.topic} does not exist, and kafka_topic_create is off"
    check_refused_at_start(kafka.flags("--no-kafka-topic-create"), expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"message_timestamp_type": "CreateTime"}, "message.timestamp.type=CreateTime and must have LogAppendTime"),
        ({"cleanup_policy": "compact"}, "cleanup.policy=compact and must have delete"),
        ({"cleanup_policy": "compact,delete"}, "cleanup.policy=compact,delete and must have delete"),
        ({"unclean_leader_election_enable": "true"}, "unclean.leader.election.enable=true and must have false"),
        ({"max_message_bytes": "10000"}, "max.message.bytes=10000, less than 65536"),
    ],
)
def test_a_topic_that_would_lose_samples_is_refused(kafka: Kafka, config: Mapping[str, str], expected: str) -> None:
    kafka.broker.make(kafka.topic, **config)
    with pytest.raises(AssertionError) as refused:
        check_refused_at_start(kafka.flags(), "")
    assert f"error: topic {kafka.topic} has {expected}" in str(refused.value)


def test_fewer_partitions_than_the_setting_are_refused(kafka: Kafka) -> None:
    kafka.broker.make(kafka.topic, partitions=2)
    expected = f"topic {kafka.topic} has 2 partitions, kafka_partition_count is {PARTITIONS}"
    check_refused_at_start(kafka.flags(), expected)


def test_more_partitions_than_the_setting_stay_empty(kafka: Kafka, tmp_path: Path) -> None:
    kafka.broker.make(kafka.topic, partitions=5)
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(body(0)).status == 204
    assert {record.partition for record in kafka.read()} == set(range(PARTITIONS))


def test_another_partition_count_than_before_is_refused_unless_it_is_meant(kafka: Kafka, tmp_path: Path) -> None:
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(body(0)).status == 204
    flags = [*kafka.broker.flags(kafka.topic), "--kafka-partition-count", 2]
    check_refused_at_start(
        flags,
        f"topic {kafka.topic} is written over {PARTITIONS} partitions, kafka_partition_count is 2: series would change "
        "partition (--kafka-partition-count-changes allows it)",
    )
    with running(tmp_path, *flags, "--kafka-partition-count-changes") as collector:
        assert collector.post(body(1)).status == 204
    # The newest records of the partitions that are written say 2 now; the third one still says 3.
    check_refused_at_start([*flags[:-1], 1], f"topic {kafka.topic} is written over 3 partitions, " + _SPREAD)


_SPREAD = "kafka_partition_count is 1: series would change partition (--kafka-partition-count-changes allows it)"


def test_a_topic_that_is_removed_answers_503_and_one_made_anew_ends_the_log(kafka: Kafka, tmp_path: Path) -> None:
    collector = Collector(tmp_path, *kafka.flags("--kafka-delivery-seconds-max", 3))
    try:
        assert collector.post(body(0)).status == 204
        kafka.broker.remove(kafka.topic)
        assert collector.post(body(1)).status == 503
        assert wait_for_status(collector, "/readyz", 503)
        assert collector.ask("GET", "/healthz").status == 200
        kafka.broker.make(kafka.topic)
        again = f"topic {kafka.topic} was made anew, its positions began again: restart the collector"
        assert wait_for_status(collector, "/healthz", 503) == f"{again}\n"
        assert collector.post(body(1)).status == 503
    finally:
        code = collector.stop()
    assert code == 1
    assert collector.output.read_text().splitlines()[-1] == f"error: topic {kafka.topic}: {again}"
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(body(1)).status == 204


def test_a_body_larger_than_a_record_becomes_several(kafka: Kafka, tmp_path: Path) -> None:
    kafka.broker.make(kafka.topic, max_message_bytes="70000")
    labels = [{"__name__": "up", "pod": "one", "number": f"{number:060}"} for number in range(2000)]
    large = b"".join(series(one, (NOW_MS, 1.0)) for one in labels)
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(snappy(large)).status == 204
    records = kafka.read()
    assert len({record.partition for record in records}) == 1
    assert len(records) == -(-len(large) // (70_000 - 4096))
    assert [dict(one[0])["number"] for one in samples_of(records)] == sorted(one["number"] for one in labels)


def test_a_series_larger_than_a_record_is_413_and_nothing_of_the_body_is_stored(kafka: Kafka, tmp_path: Path) -> None:
    kafka.broker.make(kafka.topic, max_message_bytes="70000")
    large = up(1, *((NOW_MS - 20_000 + at, 1.0) for at in range(6000)))
    with running(tmp_path, *kafka.flags()) as collector:
        answer = collector.post(snappy(up(2, (NOW_MS, 1.0)) + large))
        assert (answer.status, answer.text) == (413, "one series holds more than 65904 bytes, the most of a record\n")
        assert collector.post(snappy(up(2, (NOW_MS, 1.0)))).status == 204
    assert len(samples_of(kafka.read())) == 1


# ---- who we are ----


def account(broker: Broker, user: str, password: str) -> list[object]:
    properties = {
        "security.protocol": broker.sasl["protocol"],
        "sasl.mechanism": broker.sasl["mechanism"],
        "sasl.username": user,
        "sasl.password": password,
    }
    table = ", ".join(f'"{name}" = "{value}"' for name, value in properties.items())
    return ["--kafka-bootstrap-servers", broker.sasl["bootstrap"], "--kafka-properties", f"{{{table}}}", *ACCOUNT_FLAGS]


def test_a_known_user_may_write(kafka: Kafka, tmp_path: Path) -> None:
    flags = kafka.flags(*account(kafka.broker, kafka.broker.sasl["user"], kafka.broker.sasl["password"]))
    with running(tmp_path, *flags) as collector:
        assert collector.post(body(0)).status == 204
    assert samples_of(kafka.read()) == sorted(samples_in(body(0)))


def test_a_wrong_password_is_one_line(kafka: Kafka) -> None:
    where = f"Kafka at {kafka.broker.sasl['bootstrap']}"
    reason = "SASL authentication error: Authentication failed: Invalid username or password"
    check_refused_at_start(kafka.flags(*account(kafka.broker, "egpu", "wrong")), f"{where} refuses us: {reason}")


def test_a_user_without_rights_is_one_line(kafka: Kafka) -> None:
    kafka.broker.make(kafka.topic)
    user, password = kafka.broker.sasl["guest"], kafka.broker.sasl["guest_password"]
    where = f"Kafka at {kafka.broker.sasl['bootstrap']}"
    check_refused_at_start(
        kafka.flags(*account(kafka.broker, user, password)), f"{where} refuses us: Topic authorization failed"
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('{"acks" = "0"}', "kafka_properties: acks cannot be set, the collector sets it"),
        (
            '{"linger.ms" = "1"}',
            "kafka_properties: linger.ms cannot be set, the setting kafka_linger_seconds stands for it",
        ),
        ('{"no.such" = "1"}', 'kafka_properties: No such configuration property: "no.such"'),
    ],
)
def test_properties_that_mean_nothing_or_too_much_are_one_line(kafka: Kafka, table: str, expected: str) -> None:
    check_refused_at_start(kafka.flags("--kafka-properties", table), expected)


# ---- duplicates over a restart ----


def test_a_body_of_which_a_record_is_missing_is_stored_again(kafka: Kafka, tmp_path: Path) -> None:
    """As after a kill between two acknowledgements: all but one of its records are in the topic."""
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(body(0)).status == 204
    whole = kafka.read()
    kafka.broker.remove(kafka.topic)
    kafka.broker.make(kafka.topic)
    producer = Producer({"bootstrap.servers": kafka.broker.bootstrap})
    count = len(whole)
    for number, record in enumerate(whole[:-1], 1):
        part = b"".join(series(dict(labels), (ms, 1.0)) for labels, ms, _ in record.samples)
        headers = {
            "egpu-schema": b"1",
            "egpu-body-hash": record.body_hash,
            "egpu-part": f"{number} {count}".encode(),
            "egpu-partitions": str(PARTITIONS).encode(),
            "egpu-sample-count": str(len(record.samples)).encode(),
        }
        producer.produce(kafka.topic, value=part, partition=record.partition, headers=headers)
    producer.flush(10)
    with running(tmp_path, *kafka.flags()) as collector:
        assert collector.post(body(0)).status == 204
        assert collector.metric("egpu_collector_requests_duplicate_total") == 0
        assert collector.post(body(0)).status == 204
        assert collector.metric("egpu_collector_requests_duplicate_total") == 1


def test_nothing_is_read_at_start_where_that_is_switched_off(kafka: Kafka, tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path, *kafka.flags("--duplicate-rebuild-bytes", 0)) as collector:
            assert collector.post(body(0)).status == 204
    assert len(samples_of(kafka.read())) == 2 * len(samples_in(body(0)))


# ---- doctor ----


def doctor(*flags: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "collector", "doctor", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_doctor_tells_the_topic_its_readers_and_its_collector(kafka: Kafka, tmp_path: Path) -> None:
    with running(tmp_path, *kafka.flags()) as collector:
        for number in range(4):
            assert collector.post(body(number)).status == 204
        group = f"readers-of-{kafka.topic}"
        consumer = Consumer({"bootstrap.servers": kafka.broker.bootstrap, "group.id": group})
        consumer.commit(offsets=[TopicPartition(kafka.topic, 0, 3)], asynchronous=False)
        consumer.close()
        done = doctor(*kafka.flags(), "--listen-port", collector.port)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    stored = len(kafka.read())
    assert lines[:3] == [
        f"topic {kafka.topic}: 3 partitions, 1 replicas, 1 of them in sync, 1 needed",
        "kept: 14 days",
        f"log: {stored} records",
    ]
    assert lines[3].startswith("last record: ")
    assert lines[4] == "  partition 0: offsets 0 to 4"
    assert f"reader {group}: {stored - 3} records behind" in lines
    assert f"  samples stored: {4 * len(samples_in(body(0)))}" in lines


def test_doctor_without_broker_or_topic_is_one_line(kafka: Kafka) -> None:
    done = doctor(*kafka.flags())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: topic {kafka.topic} does not exist at {kafka.broker.bootstrap}\n"
    done = doctor("--log", "kafka", "--kafka-bootstrap-servers", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Kafka at 127.0.0.1:1 does not answer: ")
