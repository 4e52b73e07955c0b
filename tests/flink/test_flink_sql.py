"""The job's script: what it says for the settings it is given."""

import re
from dataclasses import replace
from pathlib import Path

from pipeline.contract.tables import LATE_SAMPLES, SERIES_WINDOWS
from pipeline.flink import sql
from pipeline.flink.sql import JobRules, job_script

RULES = JobRules(bootstrap_servers="broker:9092", hive_conf_dir="/etc/hive")
JAVA = Path(sql.__file__).parent / "java" / "egpu"


def statements(rules: JobRules) -> list[str]:
    return [each.strip() for each in re.split(r";\s*\n", job_script(rules)) if each.strip()]


def insert(into: str, rules: JobRules = RULES) -> str:
    return next(each for each in statements(rules) if each.startswith(f"INSERT INTO {into}"))


def selected(text: str) -> list[str]:
    return [line.strip().rstrip(",") for line in text.partition("SELECT\n")[2].partition("\nFROM")[0].split("\n")]


def test_series_windows_have_the_columns_of_the_table_in_its_order() -> None:
    columns = selected(insert("hive.`default`.series_windows_5m"))
    assert len(columns) == len(SERIES_WINDOWS.columns) + len(SERIES_WINDOWS.partitions)
    names = [column.removeprefix("rolled.") for column in columns if column.startswith("rolled.")]
    assert names == [column.name for column in SERIES_WINDOWS.columns if column.aggregate != "window"]


def test_the_rollup_gives_the_columns_that_are_asked_for() -> None:
    source = (JAVA / "WindowRollup.java").read_text()
    fields = re.findall(r"(\w+) (STRING|BIGINT|DOUBLE|BYTES)", source.partition("ROW<")[2].partition(">")[0])
    types = {"BINARY": "BYTES"}
    wanted = [
        (column.name, types.get(column.type, column.type))
        for column in SERIES_WINDOWS.columns
        if column.aggregate != "window"
    ]
    assert fields == wanted


def test_late_samples_have_the_columns_of_the_table() -> None:
    assert len(selected(insert("hive.`default`.late_samples"))) == len(LATE_SAMPLES.columns)


def test_other_windows_are_told_to_the_rollup_and_the_format() -> None:
    rules = replace(RULES, window_seconds=3600, lateness_seconds=90_061)
    text = job_script(rules)
    assert "series, 3600000)" in text
    assert "INTERVAL '0 01:00:00' DAY TO SECOND" in text
    assert "INTERVAL '1 01:01:01' DAY TO SECOND" in text
    assert "'remote-write.series-window' = '3600 s'" in text


def test_settings_of_others_are_passed_on_and_quoted() -> None:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required username='u' password='p;w';"
    rules = replace(
        RULES,
        kafka_properties={"sasl.jaas.config": login},
        flink_settings={"state.backend.type": "rocksdb"},
        bounded=True,
    )
    text = job_script(rules)
    quoted = login.replace("'", "''")
    assert text.count(f"'properties.sasl.jaas.config' = '{quoted}'") == 2
    assert "SET 'state.backend.type' = 'rocksdb';" in text
    assert "'scan.bounded.mode' = 'latest-offset'" in text
    assert "scan.watermark.alignment" not in text
    assert "scan.bounded.mode" not in job_script(RULES)
    assert "'scan.watermark.alignment.max-drift' = '600 s'" in job_script(RULES)


def test_what_cannot_be_read_goes_to_a_topic_beside_the_log() -> None:
    assert "'topic' = 'egpu-samples-dead-letter'" in job_script(RULES)


def test_every_function_is_a_class_of_ours() -> None:
    for name in re.findall(r"AS 'egpu\.(\w+)' LANGUAGE JAVA", job_script(RULES)):
        assert (JAVA / f"{name}.java").exists()
