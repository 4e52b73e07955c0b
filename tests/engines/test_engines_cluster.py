"""Start, watch, stop: real processes on real ports, with a stand-in for the JVM."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engines
import processes
import pytest
from cluster import Cluster
from engines_running import free_port_base
from settings_files import write_settings_files
from state import PORT_OFFSETS, Home, Options, Service, check_options
from versions import EngineError

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); time.sleep(60)"
Java = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path, java: Java) -> Iterator[Home]:
    java()
    made = Home(tmp_path / "a home")
    yield made
    Cluster(made).down()
    assert processes.started == [], "waited for, or they are zombies for as long as the tests last"


def service(port: int, code: str = LISTEN, *, name: str = "kafka", **more: Any) -> Service:
    """A service whose main class is a line of Python."""
    given = {"files": {}, "ports": {name: port}, "ready_port": port, "memory_mib": 1, "ready_seconds": 20.0, **more}
    return Service(name=name, engine="kafka", arguments=("-Xmx1m", code.format(port=port)), **given)


def up(home: Home, *services: Service) -> list[str]:
    """Start; returns what failed as text."""
    failed = Cluster(home).up(services, Options(), lambda records: {"seen": sorted(records)})
    return [str(error) for error in failed]


def pids(home: Home) -> dict[str, int]:
    return {name: record.running.pid for name, record in home.records().items()}


def test_up_is_idempotent_and_restarts_what_died(home: Home) -> None:
    port = free_port_base()
    assert up(home, service(port)) == []
    first = pids(home)
    assert up(home, service(port)) == []
    assert pids(home) == first
    os.kill(first["kafka"], signal.SIGKILL)
    assert up(home, service(port)) == []
    assert pids(home) != first
    assert json.loads(home.state_file.read_text())["seen"] == ["kafka"]
    assert home.state_file.stat().st_mode & 0o077 == 0


def test_other_settings_start_it_anew(home: Home, tmp_path: Path) -> None:
    port, file = free_port_base(), tmp_path / "server.properties"
    assert up(home, service(port, files={file: "a=1"})) == []
    first = pids(home)
    assert up(home, service(port, files={file: "a=2"})) == []
    assert pids(home) != first
    assert file.read_text() == "a=2"


def test_a_taken_port_is_named_with_its_owner(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = up(home, service(port))
    assert failed == [
        f"kafka: port {port} (kafka) is taken by process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()});"
        " choose another --port-base"
    ]
    assert pids(home) == {}


def test_an_answering_port_of_somebody_else_is_not_ours(home: Home) -> None:
    """The service starts, opens nothing, and meanwhile another process listens on its port."""
    port = free_port_base()
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', LISTEN]); time.sleep(60)"
    other = LISTEN.format(port=port).replace("time.sleep(60)", "time.sleep(3)")
    failed = up(home, service(port, code.replace("LISTEN", repr(other)), ready_seconds=1.0))
    assert failed[0].startswith("kafka: kafka (pid ")
    assert f"is not ready on port {port}" in failed[0]
    assert pids(home) == {}


def test_an_early_end_shows_the_end_of_the_log(home: Home) -> None:
    failed = up(home, service(free_port_base(), "raise SystemExit('no space left')"))
    assert failed[0].startswith("kafka: kafka ended with 1; the end of ")
    assert failed[0].endswith("no space left")


def test_what_needs_a_failed_service_is_not_started_and_the_rest_is(home: Home) -> None:
    base = free_port_base()
    failed = up(
        home,
        service(base, "raise SystemExit(3)", name="metastore"),
        service(base + 1, name="hiveserver2", after=("metastore",)),
        service(base + 2, name="kafka"),
    )
    assert [line.splitlines()[0].partition(";")[0] for line in failed] == [
        "kafka: metastore ended with 3",
        "kafka: hiveserver2 was not started: it needs metastore",
    ]
    assert list(pids(home)) == ["kafka"]


def test_not_enough_memory_is_said_before_the_start(home: Home) -> None:
    failed = up(home, service(free_port_base(), memory_mib=10**9))
    assert failed[0].startswith("kafka: kafka may take 1000000000 MiB, ")


def test_a_probe_is_asked_until_it_is_content(home: Home) -> None:
    asked: list[float] = []
    begun = time.time()

    def probe(started_seconds: float) -> bool:
        asked.append(started_seconds)
        return len(asked) > 2

    assert up(home, service(free_port_base(), probe=probe)) == []
    assert len(asked) == 3
    assert begun <= asked[0] <= time.time()


def test_wipe_takes_its_own_folders_only(home: Home) -> None:
    assert up(home, service(free_port_base())) == []
    for name in ("warehouse", "mine"):
        (home.folder / name).mkdir()
    running = {"kafka": {"bootstrap": "127.0.0.1:1"}, "flink": {"rest": "", "hive_conf": ""}, "hive": {"url": ""}}
    write_settings_files(home.folder, running)
    assert 'kafka_bootstrap_servers = "127.0.0.1:1"' in (home.folder / "pipeline.toml").read_text()
    assert Cluster(home).wipe() == ["kafka"]
    assert sorted(path.name for path in home.folder.iterdir()) == ["lock", "mine"]


def test_only_the_very_process_is_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pid that was given to another process since is left alone; one that ignores SIGTERM is killed."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    port = free_port_base()
    assert up(home, service(port, "import signal; signal.signal(15, signal.SIG_IGN); " + LISTEN)) == []
    running = home.records()["kafka"].running
    processes.stop([processes.Running(pid=running.pid, start_ticks=running.start_ticks + 1)])
    assert processes.is_alive(running)
    assert Cluster(home).down() == ["kafka"]
    assert not processes.is_alive(running)
    assert processes.port_owner(port) is None


def test_passwords_are_made_up_once(home: Home) -> None:
    first = home.passwords()
    assert Home(home.folder).passwords() == first
    assert len(set(first.values())) == 2
    assert up(home, service(free_port_base())) == []
    assert home.passwords() == first


def test_a_state_that_is_none_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "engines.json").write_text("{")
    assert engines.main(["status", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: state: ")


def test_ports_are_apart_and_within_their_range() -> None:
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)
    assert max(PORT_OFFSETS.values()) < 30


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"port_base": 80}, "--port-base 80"),
        ({"port_base": 65530}, "--port-base 65530"),
        ({"slots": 0}, "--slots 0"),
        ({"timezone": "Mars/Base"}, "--timezone Mars/Base"),
        ({"timezone": "/etc/passwd"}, "--timezone /etc/passwd"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        check_options(Options(**options))


@pytest.mark.parametrize("arguments", [["fly"], ["up", "--only", "spark"], ["up", "--slots", "x"], []])
def test_a_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        engines.main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_another_java_is_named(home: Home, java: Java, capsys: pytest.CaptureFixture[str]) -> None:
    java("11.0.2")
    assert engines.main(["up", "--home", str(home.folder), "--only", "kafka"]) == 1
    assert "is version 11, 17 is needed" in capsys.readouterr().err


def test_no_java_is_named(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JAVA_HOME", str(home.folder))
    assert engines.main(["up", "--home", str(home.folder), "--only", "flink"]) == 1
    assert capsys.readouterr().err.startswith("error: java: no java in JAVA_HOME ")


def test_no_maven_is_named(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EGPU_CACHE", str(tmp_path / "cache"))
    assert engines.main(["up", "--home", str(home.folder), "--only", "kafka"]) == 1
    assert "error: maven: no mvn in PATH" in capsys.readouterr().err
