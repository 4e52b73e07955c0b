"""The production forms: every line has its reason, and the engines' own parsers take them."""

import os
import re
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from engine_flink import config_yaml
from engine_kafka import server_properties
from engines_running import engines
from state import Options, ports_of

PRODUCTION = Path(__file__).resolve().parents[2] / "deploy" / "engines" / "production"
JAVA = Path(__file__).parent / "java"


def _settings(text: str, separator: str) -> dict[str, str]:
    lines = [line.split("  #")[0].partition(separator) for line in text.splitlines() if line and line[0] != "#"]
    return {name.strip(): value.strip().strip('"') for name, _, value in lines}


@pytest.mark.parametrize("name", ["kafka/server.properties", "flink/config.yaml"])
def test_every_line_has_its_reason(name: str) -> None:
    lines = (PRODUCTION / name).read_text().splitlines()
    bare = [after for before, after in pairwise(lines) if after and after[0] != "#" != before[:1]]
    assert bare == []


@pytest.mark.parametrize("name", ["hive-site.xml", "metastore-site.xml"])
def test_every_property_has_its_reason(name: str) -> None:
    text = (PRODUCTION / "hive" / name).read_text()
    assert text.count("<property>") == len(re.findall(r"-->\s*<property>", text)) > 5


def test_what_rows_depend_on_is_the_same_as_here() -> None:
    ports = ports_of(Options())
    kafka = _settings(server_properties(ports, Path("/data"), passwords=None), "=")
    flink = _settings(config_yaml(ports, Path("/flink"), 4), ": ")
    kafka_there = _settings((PRODUCTION / "kafka" / "server.properties").read_text(), "=")
    flink_there = _settings((PRODUCTION / "flink" / "config.yaml").read_text(), ": ")
    for name in ("auto.create.topics.enable", "message.max.bytes", "replica.fetch.max.bytes", "log.retention.hours"):
        assert kafka_there[name] == kafka[name]
    retention = "execution.checkpointing.externalized-checkpoint-retention"
    for name in ("pipeline.object-reuse", "state.backend.type", retention, "restart-strategy.type"):
        assert flink_there[name] == flink[name]


def _check(engine: str, program: str, given: Path) -> "subprocess.CompletedProcess[str]":
    lib = engines("install", "--only", engine).stdout.split(maxsplit=1)[1].strip() + "/lib/*"
    return subprocess.run(
        ["java", "-cp", lib, str(JAVA / f"{program}.java"), str(given)],
        capture_output=True,
        text=True,
        env={**os.environ, "KAFKA_KEYSTORE_PASSWORD": "x", "KAFKA_TRUSTSTORE_PASSWORD": "x"},
        check=False,
    )


@dataclass(frozen=True)
class Form:
    """A file, and two changes that make it wrong."""

    engine: str
    program: str
    name: str
    wrong_name: tuple[str, str]
    wrong_value: tuple[str, str]


FORMS = (
    Form("kafka", "CheckKafka", "kafka/server.properties", ("min.ins", "min.in.s"), ("bytes=4194304", "bytes=4MiB")),
    Form("flink", "CheckFlink", "flink/config.yaml", ("object-reuse", "reuse"), (": 60s", ": often")),
    Form("hive", "CheckHive", "hive/hive-site.xml", ("server2.use.SSL", "server2.SSL"), ("10000", "ten")),
    Form("hive", "CheckHive", "hive/metastore-site.xml", ("batch.retrieve", "retrieve"), (">true<", ">perhaps<")),
)


@pytest.mark.end_to_end
@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form.name))
def test_the_engine_reads_it(tmp_path: Path, form: Form) -> None:
    """As it is; and the check is one: a wrong name and a wrong value are found."""
    text = (PRODUCTION / form.name).read_text()
    file = tmp_path / Path(form.name).name
    given = tmp_path if form.engine == "flink" else file
    file.write_text(text)
    done = _check(form.engine, form.program, given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert form.wrong_name[0] in text
    file.write_text(text.replace(*form.wrong_name))
    done = _check(form.engine, form.program, given)
    assert (done.returncode, "unknown: " in done.stdout) == (1, True)
    assert form.wrong_value[0] in text
    file.write_text(text.replace(*form.wrong_value))
    assert _check(form.engine, form.program, given).returncode != 0
