"""A broker of the test's own: killed while it is read, and one that asks who we are."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines_running import engines, read_state, running
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_topic import make_topic, produce, producer_to
from waiting import wait_for

pytestmark = pytest.mark.end_to_end

RECEIVED_MS = START_MS + 10 * HOUR_MS


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    home = tmp_path_factory.mktemp("broker")
    with running(("kafka",), home=home, kafka_sasl=True) as state:
        yield {**state["kafka"], "home": home}


def test_rows_are_the_same_when_the_broker_is_killed(  # type: ignore[no-untyped-def]
    run_log, rows_of, broker, tmp_path: Path
) -> None:
    topic = make_topic(tmp_path, broker["bootstrap"])
    samples = fleet(3, hours=4)
    batches = [samples[i : i + 20] for i in range(0, len(samples), 20)]
    half = len(batches) // 2
    produce(tmp_path, batches[:half], received_ms=RECEIVED_MS)
    where = ("--source", "kafka", "--kafka-bootstrap-servers", broker["bootstrap"], "--kafka-topic", topic)
    bounds = ("--lateness-seconds", "0", "--batch-samples-max", "20", "--kafka-silence-seconds-max", "2")
    words = [sys.executable, "-m", "pipeline", "run", "--follow", *where, "--warehouse", str(tmp_path / "warehouse")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*words, *bounds, "--poll-seconds", "0.1"], stdout=said, stderr=said)
    try:
        first = tmp_path / "warehouse/container_usage_5m/dt=2026-01-01/hour=22/_manifest.json"
        wait_for(first.exists)
        os.kill(broker["pid"], signal.SIGKILL)
        wait_for(lambda: "has not answered for" in (tmp_path / "said").read_text())
        engines("up", "--home", broker["home"], "--only", "kafka", "--kafka-sasl")
        producer_to.cache_clear()
        produce(tmp_path, batches[half:], received_ms=RECEIVED_MS + 1)
        third = tmp_path / "warehouse/container_usage_5m/dt=2026-01-02/hour=00/_manifest.json"
        wait_for(third.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "answers again" in (tmp_path / "said").read_text()
    run_log(tmp_path)
    run_log(tmp_path, "undisturbed")
    assert rows_of(tmp_path)["container_usage_5m"]
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("user", "password", ""),
        ("user", "wrong", "refused our login"),
        ("guest", "guest_password", "does not let us read the topic"),
    ],
)
def test_who_we_are(command, broker, user: str, password: str, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: PLR0913 - a table of cases
    topic = make_topic(tmp_path, broker["bootstrap"])
    produce(tmp_path, [fleet(1, hours=1)], received_ms=RECEIVED_MS)
    sasl = read_state(broker["home"])["kafka"]["sasl"]
    properties = {
        "security.protocol": sasl["protocol"],
        "sasl.mechanism": sasl["mechanism"],
        "sasl.username": sasl[user],
        "sasl.password": sasl.get(password, password),
    }
    (tmp_path / "settings.toml").write_text(
        f'source = "kafka"\nkafka_bootstrap_servers = "{sasl["bootstrap"]}"\nkafka_topic = "{topic}"\n'
        "[kafka_properties]\n"
        + "\n".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in properties.items())
    )
    done = command("run", "--config", tmp_path / "settings.toml", "--warehouse", tmp_path / "warehouse")
    if not said:
        assert done.returncode == 0, done
        assert done.stdout.startswith("hours 1 "), done
        return
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith(f"error: Kafka at {sasl['bootstrap']} {said}"), done
