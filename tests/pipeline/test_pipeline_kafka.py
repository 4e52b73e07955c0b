"""The Kafka topic as the log: rows are those of the SQLite log, whatever the order, the restarts and the partitions;
what a person can mend is one line; a broker that is away is waited for."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient, NewPartitions
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import Sample, append
from pipeline_request import write_request
from pipeline_topic import (
    delete_before,
    make_topic,
    partition_of,
    produce,
    produce_raw,
    producer_to,
    remove_topic,
    settings_of,
    topic_of,
)
from waiting import wait_for

from collector.contract.record import Position
from collector.contract.topic import HEADER_SCHEMA
from egpu_runtime.contract.configuration import load
from egpu_runtime.contract.process import Failure
from pipeline.merging import Merge
from pipeline.reading import Log, LogGap
from pipeline.settings import PipelineSettings
from pipeline.source_kafka import KafkaLog
from pipeline.sources import open_log

pytestmark = pytest.mark.end_to_end

RECEIVED_MS = START_MS + 10 * HOUR_MS
DRIVER = Path(__file__).parent / "pipeline_killed.py"
ROOT = Path(__file__).parents[2]
FAST = ("--poll-seconds", "0.05", "--merge-seconds", "1", "--checkpoint-seconds", "0", "--lateness-seconds", "0")


def memory(time_ms: int, value: float, pod: str = "p") -> Sample:
    labels = {"__name__": "egpu_container_memory_used_bytes", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    return {**labels, "pod": pod, "container": "c"}, time_ms, value


@pytest.fixture
def topic(kafka: dict[str, object], tmp_path: Path) -> str:
    """A topic of three partitions that is the log of the test's folder."""
    return make_topic(tmp_path, str(kafka["bootstrap"]))


def flags(folder: Path) -> list[str]:
    found = topic_of(folder)
    assert found
    return ["--source", "kafka", "--kafka-bootstrap-servers", found["bootstrap"], "--kafka-topic", found["name"]]


def mixed(samples: list[Sample], chance: random.Random) -> list[list[Sample]]:
    """Batches out of order, some samples twice."""
    order = sorted(samples + chance.sample(samples, len(samples) // 4), key=lambda _: chance.random())
    sizes = iter(lambda: chance.choice([1, 20, 300]), 0)
    batches = []
    while order:
        size = next(sizes)
        batches.append(order[:size])
        order = order[size:]
    return batches


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.usefixtures("topic")
def test_rows_are_those_of_the_sqlite_log(run_log, rows_of, seed: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    chance = random.Random(seed)
    samples = fleet(seed, hours=3)
    straight = tmp_path / "straight"
    straight.mkdir()
    append(straight / "log", [samples], received_ms=RECEIVED_MS)
    run_log(straight)
    batches = mixed(samples, chance)
    bounds = {"batch_samples_max": chance.choice([1, 100]), "open_samples_max": chance.choice([300, 100_000])}
    for part in range(3):
        produce(tmp_path, batches[part::3], received_ms=RECEIVED_MS + part)
        run_log(tmp_path, lateness_seconds=chance.choice([0, 300, 86_400]), checkpoint_seconds=0, **bounds)
    assert rows_of(straight)["container_usage_5m"]
    assert rows_of(tmp_path) == rows_of(straight)


def run_killed(folder: Path, step: int, when: str) -> int:
    bounds = ["--checkpoint-seconds", "0", "--batch-samples-max", "40", "--lateness-seconds", "0"]
    words = [sys.executable, DRIVER, step, when, "run", *flags(folder), "--warehouse", folder / "warehouse", *bounds]
    return subprocess.run([*map(str, words)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False).returncode


@pytest.mark.usefixtures("topic")
def test_killed_at_seeded_instants(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    chance = random.Random(5)
    samples = fleet(7, hours=6)
    behind, rest = samples[:30], samples[30:]
    batches = [rest[i : i + 20] for i in range(0, len(rest), 20)]
    for number, batch in enumerate([*batches, behind[:15], behind[15:]]):
        produce(tmp_path, [batch], received_ms=RECEIVED_MS + number)
    kills = 0
    while run_killed(tmp_path, chance.randint(1, 8), chance.choice(["before", "after"])) == -signal.SIGKILL:
        kills += 1
        if kills == 8:
            break
    assert kills >= 6
    run_log(tmp_path, lateness_seconds=0, checkpoint_seconds=0)
    run_log(tmp_path, "undisturbed")
    assert rows_of(tmp_path)["container_usage_5m"]
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")


@pytest.mark.usefixtures("topic")
def test_a_restart_goes_on_behind_what_is_done(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for hour in range(4):
        produce(tmp_path, [[memory(START_MS + hour * HOUR_MS, 1.0, pod) for pod in "abcdef"]], received_ms=RECEIVED_MS)
    first = run_log(tmp_path)
    assert first.hours == 4
    assert run_log(tmp_path).records == 0
    produce(tmp_path, [[memory(START_MS + 5 * HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
    assert run_log(tmp_path).records == 1


@pytest.mark.usefixtures("topic")
def test_lost_records_are_named_by_partition(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for hour in range(6):
        produce(tmp_path, [[memory(START_MS + hour * HOUR_MS, float(hour))]], received_ms=RECEIVED_MS)
        if hour == 1:
            run_log(tmp_path)
    lost_of = partition_of(memory(0, 0.0), 3)
    delete_before(tmp_path, lost_of, 5)
    with pytest.raises(Failure, match=f"the log lost partition {lost_of} offsets 2 to 4 to retention"):
        run_log(tmp_path)
    run_log(tmp_path, accept_gap=True)
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [0.0, 1.0, 5.0]
    assert f"partition {lost_of} offsets 2 to 4" in (tmp_path / "warehouse/state/checkpoint.json").read_text()


@pytest.mark.usefixtures("topic")
def test_late_is_not_merged_once_the_topic_lost_part_of_the_hour(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for hour in (0, 2):
        produce(tmp_path, [[memory(START_MS + hour * HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    delete_before(tmp_path, partition_of(memory(0, 0.0), 3), 1)
    produce(tmp_path, [[memory(START_MS + 60_000, 9.0)]], received_ms=RECEIVED_MS)
    assert run_log(tmp_path).samples.too_late == 1
    assert rows_of(tmp_path)["container_usage_5m"][0]["memory_used_bytes_max"] == 1.0


def test_a_topic_made_anew_is_another_log(run_log, rows_of, kafka, topic: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    produce(tmp_path, [[memory(START_MS, 1.0)]], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    remove_topic(tmp_path)
    make_topic(tmp_path, str(kafka["bootstrap"]), name=topic)
    for hour in (0, 1, 2):
        produce(tmp_path, [[memory(START_MS + hour * HOUR_MS, 9.0)]], received_ms=RECEIVED_MS)
    with pytest.raises(Failure, match="this is not the log this warehouse was made from"):
        run_log(tmp_path)
    run_log(tmp_path, accept_gap=True)
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [1.0, 9.0, 9.0]


@pytest.mark.usefixtures("topic")
def test_a_folder_and_a_topic_are_different_logs(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = tmp_path / "files"
    files.mkdir()
    append(files / "log", [[memory(START_MS, 1.0)]], received_ms=RECEIVED_MS)
    run_log(files)
    (files / "topic.json").write_text((tmp_path / "topic.json").read_text())
    produce(tmp_path, [[memory(START_MS, 2.0)]], received_ms=RECEIVED_MS)
    with pytest.raises(Failure, match="this is not the log this warehouse was made from"):
        run_log(files)


@pytest.mark.usefixtures("topic")
def test_others_records_are_read_and_damaged_ones_named(command, run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    produce_raw(tmp_path, write_request([memory(START_MS, 3.0)]), received_ms=RECEIVED_MS)
    produce_raw(tmp_path, b"\xff\xff\xff", received_ms=RECEIVED_MS)
    produce_raw(tmp_path, write_request([memory(START_MS, 4.0, "q")]), received_ms=RECEIVED_MS, headers={"a": "b"})
    assert run_log(tmp_path).corrupt == 1
    assert run_log(tmp_path).corrupt == 0
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [3.0, 4.0]
    shown = command("doctor", *flags(tmp_path), "--warehouse", tmp_path / "warehouse").stdout
    assert "1 (partition 0 offset 1: " in shown


@pytest.mark.usefixtures("topic")
def test_a_newer_schema_is_refused(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    produce_raw(tmp_path, b"", received_ms=RECEIVED_MS, headers={HEADER_SCHEMA: "99"})
    with pytest.raises(Failure, match="partition 0 offset 0 of the topic has schema 99, newer than the 1 known here"):
        run_log(tmp_path)


def test_partitions_that_are_added_are_read(run_log, rows_of, kafka, topic: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    produce(tmp_path, [[memory(START_MS, 1.0, pod) for pod in "abc"]], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    admin = AdminClient({"bootstrap.servers": kafka["bootstrap"]})
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    (tmp_path / "topic.json").write_text((tmp_path / "topic.json").read_text().replace("3}", "5}"))
    # A producer of before would know three for minutes.
    producer_to.cache_clear()
    wait_for(lambda: len(admin.list_topics(topic).topics[topic].partitions) == 5)
    produce(tmp_path, [[memory(START_MS + 60_000, 2.0, pod) for pod in "abcdefghijkl"]], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    rows = [row for row in rows_of(tmp_path)["container_usage_5m"] if row["memory_used_bytes_max"] == 2.0]
    assert len(rows) == 12


@pytest.mark.usefixtures("topic")
def test_doctor_says_how_far_behind(command, run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    warehouse = ("--warehouse", tmp_path / "warehouse")
    (tmp_path / "warehouse").mkdir()
    for hour in range(3):
        batches = [[memory(START_MS + hour * HOUR_MS, 1.0, pod)] for pod in "abcd"]
        produce(tmp_path, batches, received_ms=RECEIVED_MS + hour * HOUR_MS)
        if hour == 0:
            assert "4 records not read, 0 s" in command("doctor", *flags(tmp_path), *warehouse).stdout
            run_log(tmp_path)
            assert "0 records not read" in command("doctor", *flags(tmp_path), *warehouse).stdout
    assert "8 records not read, 2.0 h" in command("doctor", *flags(tmp_path), *warehouse).stdout


@pytest.mark.usefixtures("topic")
def test_partitions_that_are_ahead_wait_for_the_others(monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """What one partition holds was received before anything of the next: all but one have to be held back."""
    monkeypatch.setattr("pipeline.source_kafka._HELD_BYTES_MAX", 60_000)
    pods = {partition_of(memory(0, 0.0, pod), 3): pod for pod in "abcdefghijkl"}
    assert len(pods) == 3
    for partition, pod in pods.items():
        batches = [[memory(START_MS + record * 1000 + each, 1.0, pod) for each in range(100)] for record in range(300)]
        produce(tmp_path, batches, received_ms=RECEIVED_MS + partition * HOUR_MS)
    held_max = 0
    fuller_than = Merge.fuller_than

    def seen(self: Merge, bytes_max: int) -> set[int]:
        nonlocal held_max
        held_max = max(held_max, sum(self._bytes.values()))
        return fuller_than(self, bytes_max)

    monkeypatch.setattr(Merge, "fuller_than", seen)
    log = open_topic(tmp_path)
    place, received = log.start, []
    while True:
        records, place = log.read(place, 5_000)
        if not records:
            break
        received += [record.received_ms for record in records]
    log.close()
    assert len(received) == 900
    assert received == sorted(received)
    # Of 14 MB; each partition may be over its share by what came at once.
    assert 60_000 < held_max < 1_000_000


def open_topic(folder: Path) -> Log:
    settings = load(PipelineSettings, file_text="", overrides=settings_of(folder))
    return open_log(None, settings, follow=False, stop=threading.Event())


@pytest.mark.usefixtures("topic")
def test_an_hour_is_read_again_from_where_it_was_received(tmp_path: Path) -> None:
    for hour in range(6):
        time_ms = START_MS + hour * HOUR_MS
        produce(tmp_path, [[memory(time_ms, 1.0, pod) for pod in "abc"]], received_ms=time_ms + 1000)
    late = [memory(START_MS + 3 * HOUR_MS, 2.0)]
    produce(tmp_path, [late], received_ms=START_MS + 6 * HOUR_MS)
    log = open_topic(tmp_path)
    hour_ms = range(START_MS + 3 * HOUR_MS, START_MS + 4 * HOUR_MS)
    found = [record for some in log.read_between(hour_ms, log.end_place(), sample_count_max=1) for record in some]
    assert sum(record.sample_count for record in found) == 4
    assert {record.timestamp_min_ms for record in found} == {hour_ms.start}
    least = {position.segment: position.row for position in (record.position for record in reversed(found))}
    upto = log.end_place().before([Position(partition, row) for partition, row in least.items()])
    assert [record for some in log.read_between(hour_ms, upto, sample_count_max=9) for record in some] == []
    log.close()


@pytest.mark.usefixtures("topic")
def test_retention_that_passes_a_reader_is_a_gap(monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The records go between the look at the offsets and the reading."""
    for hour in range(6):
        produce(tmp_path, [[memory(START_MS + hour * HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
    partition = partition_of(memory(0, 0.0), 3)
    log = open_topic(tmp_path)
    records, place = log.read(log.start, 1)
    assert len(records) == 1
    looked = KafkaLog._bounds
    delete_before(tmp_path, partition, 4)
    stale = iter([{0: (0, 6), 1: (0, 6), 2: (0, 6)}])
    monkeypatch.setattr(KafkaLog, "_bounds", lambda self, asked: next(stale, None) or looked(self, asked))
    begun = open_topic(tmp_path)
    with pytest.raises(LogGap, match=f"partition {partition} offsets 1 to 3") as gap:
        begun.read(place, 1)
    records, _ = begun.read(gap.value.resume, 9)
    assert [record.position.row for record in records] == [5, 6]
    log.close()
    begun.close()


def test_what_was_read_is_committed_for_others_to_see(run_log, kafka, topic: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    produce(tmp_path, [[memory(START_MS, 1.0, pod)] for pod in "abcdefgh"], received_ms=RECEIVED_MS)
    run_log(tmp_path, kafka_properties={"group.id": topic})
    admin = AdminClient({"bootstrap.servers": kafka["bootstrap"]})
    found = next(iter(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)]).values())).result(30)
    assert sum(partition.offset for partition in found.topic_partitions) == 8


@contextmanager
def following(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    words = ["run", "--follow", *flags(folder), "--warehouse", str(folder / "warehouse"), *FAST, *more]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "pipeline", *words], stdout=said, stderr=said, text=True)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (folder / "said").read_text()
        finally:
            process.kill()
            process.wait()


def version(folder: Path, hour: str) -> int:
    path = folder / f"warehouse/container_usage_5m/dt=2026-01-01/hour={hour}/_manifest.json"
    return int(json.loads(path.read_text())["hour"]["version"]) if path.exists() else 0


@pytest.mark.usefixtures("topic")
def test_follow_closes_hours_and_merges_late(tmp_path: Path) -> None:
    with following(tmp_path):
        produce(tmp_path, [[memory(START_MS, 1.0)], [memory(START_MS + HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
        wait_for(lambda: version(tmp_path, "22") == 1)
        produce(tmp_path, [[memory(START_MS + 60_000, 9.0)]], received_ms=RECEIVED_MS)
        wait_for(lambda: version(tmp_path, "22") == 2)
    assert "closed the hour 2026-01-01 22:00 UTC: 1 samples" in (tmp_path / "said").read_text()
    assert version(tmp_path, "23") == 0


def test_a_topic_made_anew_while_it_is_followed_is_noticed(kafka, topic: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["run", "--follow", *flags(tmp_path), "--warehouse", str(tmp_path / "warehouse"), *FAST]
    produce(tmp_path, [[memory(START_MS, 1.0)], [memory(START_MS + HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
    process = subprocess.Popen([sys.executable, "-m", "pipeline", *words], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: version(tmp_path, "22") == 1)
        remove_topic(tmp_path)
        make_topic(tmp_path, kafka["bootstrap"], name=topic)
        _, said = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert f"error: topic {topic} at {kafka['bootstrap']} has become another log: " in said


@pytest.mark.usefixtures("topic")
def test_a_broker_that_does_not_answer_is_waited_for(kafka, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said = tmp_path / "said"
    with following(tmp_path, "--kafka-silence-seconds-max", "2"):
        produce(tmp_path, [[memory(START_MS, 1.0)], [memory(START_MS + HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
        wait_for(lambda: version(tmp_path, "22") == 1)
        os.kill(kafka["pid"], signal.SIGSTOP)
        try:
            wait_for(lambda: "has not answered for" in said.read_text())
        finally:
            os.kill(kafka["pid"], signal.SIGCONT)
        wait_for(lambda: "answers again" in said.read_text())
        produce(tmp_path, [[memory(START_MS + 2 * HOUR_MS, 1.0)]], received_ms=RECEIVED_MS)
        wait_for(lambda: version(tmp_path, "23") == 1)
    # Silent and back, each said, and nothing else went wrong.
    told = said.read_text()
    assert told.index("has not answered for") < told.index("answers again")
    assert "error: " not in told


def test_no_broker_is_one_line_and_a_follower_can_be_stopped(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "topic.json").write_text(json.dumps({"bootstrap": "127.0.0.1:9", "name": "t", "partitions": 1}))
    (tmp_path / "warehouse").mkdir()
    quick = ("--kafka-silence-seconds-max", "1")
    for subject in ("run", "finalise", "doctor"):
        done = command(subject, *flags(tmp_path), "--warehouse", tmp_path / "warehouse", *quick)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert done.stderr.startswith("error: Kafka at 127.0.0.1:9 has not answered for"), done
    with following(tmp_path, *quick):
        wait_for(lambda: "waiting" in (tmp_path / "said").read_text())


def test_a_missing_topic_and_a_wrong_property_are_one_line(command, kafka, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    where = ("run", "--source", "kafka", "--kafka-bootstrap-servers", kafka["bootstrap"])
    for more, said in (
        (("--kafka-topic", "none"), f"error: Kafka at {kafka['bootstrap']} has no topic none\n"),
        (("--kafka-properties", '{nonsense = "1"}'), "error: kafka_properties: No such configuration property"),
        (("--kafka-properties", '{"security.protocol" = "nonsense"}'), "error: kafka_properties: Invalid value"),
    ):
        done = command(*where, *more, "--warehouse", tmp_path / "warehouse")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert done.stderr.startswith(said), done
