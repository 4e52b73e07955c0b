"""Which topics may be the log, what headers say, and how the table of Kafka properties is given."""

from collections.abc import Mapping

import pytest

from collector.intake import NewRecord
from collector.settings import CollectorSettings
from collector.topic_rules import (
    NewestRecord,
    TopicFacts,
    new_topic_settings,
    part_headers,
    record_headers,
    remarks,
    whole_bodies,
    why_refused,
    why_spread_refused,
    why_unavailable,
)
from egpu_runtime.contract.configuration import SettingsError, load, to_toml

SETTINGS = CollectorSettings(kafka_partition_count=4, kafka_replication_factor=3, kafka_insync_replicas_min=2)
GOOD = new_topic_settings(SETTINGS)


def topic(
    settings: Mapping[str, str] = GOOD, *, partitions: int = 4, replicas: int = 3, in_sync: int = 3
) -> TopicFacts:
    return TopicFacts("t", "0" * 32, partitions, replicas, in_sync, {**GOOD, **settings})


def headers(body: int, number: int, count: int, *, partitions: int = 4) -> list[tuple[str, bytes]]:
    record = NewRecord(bytes([body]) * 16, 10, 1, 2, b"")
    return [*record_headers(record, partitions), *part_headers(number, count, sample_count=3)]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (topic(), ""),
        (topic(partitions=9, replicas=5), ""),
        (
            topic({"message.timestamp.type": "CreateTime"}),
            "message.timestamp.type=CreateTime and must have LogAppendTime",
        ),
        (topic({"cleanup.policy": "compact,delete"}), "cleanup.policy=compact,delete and must have delete"),
        (topic({"unclean.leader.election.enable": "true"}), "unclean.leader.election.enable=true and must have false"),
        (topic(partitions=3), "3 partitions, kafka_partition_count is 4"),
        (topic(replicas=2), "2 replicas, kafka_replication_factor is 3"),
        (topic({"min.insync.replicas": "1"}), "1 min.insync.replicas, kafka_insync_replicas_min is 2"),
        (topic({"max.message.bytes": "65536"}), "max.message.bytes=65536, less than 65536"),
    ],
)
def test_a_topic_is_refused_for_each_way_to_lose_samples(facts: TopicFacts, expected: str) -> None:
    found = why_refused(facts, SETTINGS)
    assert found.startswith(f"topic t has {expected}") if expected else found == ""


def test_a_value_stays_below_what_the_topic_takes() -> None:
    assert topic().value_bytes_max == (4 << 20) - 4096
    assert topic({"max.message.bytes": "100000"}).value_bytes_max == 95904
    assert topic({"max.message.bytes": str(1 << 30)}).value_bytes_max == (4 << 20) - 4096


def test_retention_is_by_receipt_or_for_good() -> None:
    assert GOOD["retention.ms"] == "1209600000"
    for_good = new_topic_settings(CollectorSettings(kafka_retention_seconds=0, kafka_retention_bytes=0))
    assert (for_good["retention.ms"], for_good["retention.bytes"]) == ("-1", "-1")
    assert "min.insync.replicas" not in for_good


def test_another_retention_than_ours_is_said_and_not_refused() -> None:
    assert list(remarks(topic(), SETTINGS)) == []
    (line,) = remarks(topic({"retention.ms": "3600000"}), SETTINGS)
    assert line == "topic t has retention.ms=3600000, it would be made with 1209600000"
    (line,) = remarks(topic(partitions=6), SETTINGS)
    assert line == "topic t has 6 partitions, series are spread over the first 4 (kafka_partition_count)"


def test_too_few_replicas_in_sync_are_no_reason_to_end() -> None:
    assert why_unavailable(topic(in_sync=2)) == ""
    expected = "topic t: a partition has 1 in-sync replicas, fewer than its min.insync.replicas 2"
    assert why_unavailable(topic(in_sync=1)) == expected


def test_a_body_counts_as_stored_when_all_its_records_are_there() -> None:
    records = [
        (headers(1, 1, 2), 10),
        (headers(2, 1, 1), 12),
        (headers(1, 2, 2), 11),
        (headers(3, 2, 2), 13),
        (headers(4, 1, 2), 14),
        (headers(4, 1, 2), 15),
        ([], 16),
        ([("egpu-body-hash", b"x"), ("egpu-part", b"1 none")], 17),
    ]
    assert whole_bodies(records) == [(bytes([1]) * 16, 11), (bytes([2]) * 16, 12)]


def test_another_spread_than_the_newest_records_have_is_refused() -> None:
    same, other, unknown = (
        NewestRecord(found, 100, 1) for found in (headers(1, 1, 1), headers(1, 1, 1, partitions=6), [])
    )
    assert why_spread_refused([same, unknown], SETTINGS) == ""
    assert why_spread_refused([], SETTINGS) == ""
    assert why_spread_refused([same, other], SETTINGS).startswith(f"topic {SETTINGS.kafka_topic} is written over 6 ")
    meant = CollectorSettings(kafka_partition_count=4, kafka_partition_count_changes=True)
    assert why_spread_refused([other], meant) == ""


def test_a_table_is_given_in_a_file_or_as_its_text() -> None:
    text = '{"client.id" = "a\\"b", "security.protocol" = "SASL_SSL"}'
    by_flag = load(CollectorSettings, file_text="", overrides={"kafka_properties": text})
    by_file = load(CollectorSettings, file_text=f"kafka_properties = {text}", overrides={})
    assert by_flag == by_file
    assert by_flag.kafka_properties == {"client.id": 'a"b', "security.protocol": "SASL_SSL"}
    assert load(CollectorSettings, file_text=to_toml(by_flag), overrides={}) == by_flag


def test_a_password_in_a_table_is_not_printed() -> None:
    printed = to_toml(CollectorSettings(kafka_properties={"sasl.username": "collector", "sasl.password": "hunter2"}))
    assert "hunter2" not in printed
    assert '"sasl.username" = "collector"' in printed


@pytest.mark.parametrize("text", ["a=b", "x", '{"a" = 1}', '"text"', "{"])
def test_what_is_no_table_of_texts_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        load(CollectorSettings, file_text="", overrides={"kafka_properties": text})
