"""The real engines, started here: what they promise to those who use them, and what survives kill -9."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from engines_running import PROGRAM, engines, read_state, running
from processes import resident_mib
from pyhive import hive
from thrift.transport.TTransport import TTransportException

pytestmark = [pytest.mark.end_to_end, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
RESIDENT_MIB_MAX = 8192


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The whole set, in a folder with a blank in its name, with users, and with Hive in another zone."""
    folder = tmp_path_factory.mktemp("engines") / "a home"
    options = {"kafka_sasl": True, "hive_auth": "CUSTOM", "timezone": "Asia/Tokyo", "slots": 2}
    with running(("kafka", "flink", "hive"), home=folder, **options):
        yield folder


def _kill_and_up(home: Path, *services: str) -> dict[str, Any]:
    for service in services:
        os.kill(read_state(home)["processes"][service]["pid"], signal.SIGKILL)
    engines("up", "--home", home)
    return read_state(home)


def _query(state: dict[str, Any], *statements: str, password: str | None = None) -> list[Any]:
    port = state["processes"]["hiveserver2"]["ready_port"]
    given = state["passwords"]["egpu"] if password is None else password
    connection = hive.connect("127.0.0.1", port, auth="LDAP", username="egpu", password=given)
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    rows: list[Any] = cursor.fetchall()
    connection.close()
    return rows


def _rest(state: dict[str, Any], path: str) -> Any:
    with urllib.request.urlopen(state["flink"]["rest"] + path, timeout=10) as response:
        return json.load(response)


@pytest.mark.full
def test_up_again_changes_nothing_and_the_set_is_small(home: Path) -> None:
    before = read_state(home)["processes"]
    done = engines("up", "--home", home)
    assert read_state(home)["processes"] == before
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [name, "up"] for name in ("kafka", "jobmanager", "taskmanager", "metastore", "hiveserver2")
    ]
    assert 500 < sum(resident_mib(entry["pid"]) for entry in before.values()) < RESIDENT_MIB_MAX


@pytest.mark.full
def test_a_broker_keeps_what_it_acknowledged(home: Path) -> None:
    state = read_state(home)
    servers = {"bootstrap.servers": state["kafka"]["bootstrap"]}
    topic = NewTopic("kept", num_partitions=1, replication_factor=1)
    client = AdminClient(servers)
    client.create_topics([topic])["kept"].result(30)
    producer = Producer({**servers, "acks": "all"})
    for number in range(100):
        producer.produce("kept", str(number).encode())
    assert producer.flush(30) == 0
    _kill_and_up(home, "kafka")
    consumer = Consumer({**servers, "group.id": "kept", "auto.offset.reset": "earliest"})
    consumer.subscribe(["kept"])
    messages = consumer.consume(100, timeout=30)
    consumer.close()
    assert [message.value() for message in messages] == [str(number).encode() for number in range(100)]


@pytest.mark.full
def test_a_guest_is_known_and_may_do_nothing(home: Path) -> None:
    sasl = read_state(home)["kafka"]["sasl"]

    def topics(user: str, password: str) -> Any:
        client = AdminClient(
            {
                "bootstrap.servers": sasl["bootstrap"],
                "security.protocol": sasl["protocol"],
                "sasl.mechanism": sasl["mechanism"],
                "sasl.username": user,
                "sasl.password": password,
            }
        )
        name = f"of-{user}"
        return client.create_topics([NewTopic(name, 1, 1)])[name].result(30)

    assert topics(sasl["user"], sasl["password"]) is None
    with pytest.raises(KafkaException) as caught:
        topics(sasl["guest"], sasl["guest_password"])
    assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.full
def test_the_slots_are_back_after_either_manager_was_killed(home: Path) -> None:
    for killed in (["taskmanager"], ["jobmanager"], ["jobmanager", "taskmanager"]):
        state = _kill_and_up(home, *killed)
        assert _rest(state, "/overview")["slots-total"] == 2
    settings = {entry["key"]: entry["value"] for entry in _rest(state, "/jobmanager/config")}
    retention = settings["execution.checkpointing.externalized-checkpoint-retention"]
    assert (settings["pipeline.object-reuse"], retention) == ("true", "RETAIN_ON_CANCELLATION")
    assert state["flink"]["checkpoints"].startswith("file:///")


@pytest.mark.full
def test_hive_keeps_tables_and_asks_who_comes(home: Path) -> None:
    state = read_state(home)
    place = Path(state["warehouse"], "t").as_uri()
    rows = _query(
        state,
        "CREATE EXTERNAL TABLE t (at TIMESTAMP, n BIGINT) PARTITIONED BY (dt STRING)"
        f" STORED AS PARQUET LOCATION '{place}'",
        "INSERT INTO t PARTITION (dt='2026-01-01') VALUES (TIMESTAMP '2026-01-01 10:00:00.000001', 9007199254740993)",
        "SELECT dt, COUNT(*), MAX(n), CAST(MAX(at) AS STRING), FROM_UNIXTIME(0) FROM t GROUP BY dt",
    )
    assert rows == [("2026-01-01", 1, 9007199254740993, "2026-01-01 10:00:00.000001", "1970-01-01 09:00:00")]
    with pytest.raises(TTransportException, match="validating the login"):
        _query(state, "SELECT 1", password="wrong")
    state = _kill_and_up(home, "metastore", "hiveserver2")
    assert _query(state, "SELECT n FROM t") == [(9007199254740993,)]


@pytest.mark.full
def test_our_jar_is_compiled_and_named(home: Path) -> None:
    jar = read_state(home)["flink_jar"]
    assert engines("jar").stdout.strip() == jar
    listed = subprocess.run(["jar", "tf", jar], capture_output=True, text=True, check=True).stdout.split()
    assert {"egpu/SqlJob.class", "META-INF/services/org.apache.flink.table.factories.Factory"} <= set(listed)


def test_two_installs_at_once_make_one(tmp_path: Path) -> None:
    """Into an empty cache; both end well, and what they left is whole."""
    command = [sys.executable, str(PROGRAM), "install", "--only", "kafka"]

    def install(_: int) -> str:
        environment = {**os.environ, "EGPU_CACHE": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(install, range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "engines").iterdir() if path.is_dir()] == [Path(first.split()[1]).name]


def test_a_taken_port_fails_its_engine_alone(tmp_path: Path) -> None:
    with running(("kafka",)) as state:
        port = state["processes"]["kafka"]["ready_port"]
        done = engines("up", "--home", tmp_path, "--port-base", port, "--only", "kafka", code=1)
    assert f"error: kafka: port {port} (kafka) is taken by process {state['kafka']['pid']} (java)" in done.stderr
    assert "nothing runs" in done.stdout
