"""Kafka to Flink to Hive: rates of the job, of what it is compared with, and what it keeps; prints one JSON line.

On engines of its own, or on those whose home EGPU_TEST_ENGINES names. A rate is samples a second of wall clock, or
a CPU-second of the whole TaskManager (compiler, collector and Kafka client included). 12 labels of Kubernetes and 2 of
the scrape, 2,000 samples a record, lz4 in Kafka. The baseline in the same run is one JSON record a sample.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pyarrow.parquet as pq
from engines_running import running
from flink_load import Ended, Jobs, Load, fill

from pipeline.contract.tables import LATE_SAMPLES, SERIES_WINDOWS
from pipeline.flink.sql import JobRules, job_script, samples_ddl, windows_insert
from pipeline.warehouse_hive import HiveServer

RUNS = 2
Row = dict[str, object]


def rate(load: Load, ended: list[Ended]) -> tuple[float, float]:
    """Samples a second of wall clock and a CPU-second, the best of the runs: the machine may be shared."""
    return max(load.samples / each.seconds for each in ended), max(load.samples / each.cpu_seconds for each in ended)


class Bench:
    """The measurements, on one set of engines."""

    def __init__(self, engines: Mapping[str, Any], folder: Path) -> None:
        self.engines = engines
        self.folder = folder
        self.bootstrap = engines["kafka"]["bootstrap"]
        self.jobs = Jobs(engines)
        self.rows: list[Row] = []

    def say(self, what: str, value: float, unit: str, **more: object) -> None:
        self.rows.append({"what": what, "value": value, "unit": unit, **more})
        sys.stderr.write(f"{what}: {value:,.4g} {unit}\n")

    def load(self, series: int, rounds: int, **more: Any) -> Load:
        load = Load(f"bench-{uuid4().hex[:8]}", series, rounds, **more)
        fill(self.bootstrap, load)
        return load

    def rules(self, load: Load, database: str = "default", **settings: str) -> JobRules:
        return JobRules(
            bootstrap_servers=self.bootstrap,
            hive_conf_dir=self.engines["flink"]["hive_conf"],
            hive_database=database,
            topic=load.topic,
            group=load.topic,
            checkpoint_seconds=10,
            flink_settings=settings,
            bounded=True,
        )

    def hive(self) -> tuple[str, Path]:
        """A new database with the tables: its name and their folder."""
        name = f"bench_{uuid4().hex[:8]}"
        url = self.engines["hive"]["url"]
        with HiveServer(url) as server:
            server.execute(f"CREATE DATABASE {name}")
        with HiveServer(f"{url.rpartition('/')[0]}/{name}") as server:
            server.ensure_tables(str(self.folder / name))
        return name, self.folder / name

    def submitted(self, load: Load, parallelism: int = 1, **settings: str) -> tuple[Ended, Path]:
        """The job as ``submit`` starts it, into Hive tables of its own; how it ended and where the tables lie."""
        name, warehouse = self.hive()
        ended = self.jobs.run(job_script(self.rules(load, name, **settings)), parallelism)
        return ended, warehouse

    def bare(self, load: Load) -> Ended:
        """MAX, AVG and COUNT by series and window, to nowhere."""
        script = f"""SET 'pipeline.object-reuse' = 'true';
{samples_ddl(self.rules(load))};
CREATE TEMPORARY TABLE nowhere (series_id BIGINT, w TIMESTAMP(3), a DOUBLE, b DOUBLE, n BIGINT)
WITH ('connector' = 'blackhole');
INSERT INTO nowhere SELECT series_id, window_start, MAX(`value`), AVG(`value`), COUNT(*)
FROM TABLE(TUMBLE(TABLE samples, DESCRIPTOR(ts), INTERVAL '5' MINUTES)) GROUP BY window_start, window_end, series_id;"""
        return self.jobs.run(script)

    def of_json(self, load: Load) -> Ended:
        """The same job with the same sink, but from JSON records, a series named by the labels that tell it apart."""
        name, _ = self.hive()
        rules = self.rules(load, name)
        named = "name || '/' || labels['gpu_uuid'] || '/' || labels['pod']"
        log = f"""CREATE TEMPORARY TABLE samples (`timestamp` BIGINT, `value` DOUBLE, name STRING,
  labels MAP<STRING, STRING>, ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3), series_id AS {named}, series AS {named},
  received TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, WATERMARK FOR ts AS ts - INTERVAL '5' MINUTE)
WITH ('connector' = 'kafka', 'topic' = '{load.topic}', 'properties.bootstrap.servers' = '{self.bootstrap}',
  'properties.group.id' = '{load.topic}', 'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset', 'format' = 'json')"""
        script = job_script(rules)
        insert = windows_insert(rules, f"hive.{name}.{SERIES_WINDOWS.name}")
        script = script.replace(samples_ddl(rules), log).partition("INSERT INTO")[0]
        return self.jobs.run(f"{script}{insert};")

    def rates(self) -> None:
        """The job, the bare rollup and the JSON form, with 2,000 series."""
        load = self.load(2_000, 1_500)
        as_json = self.load(2_000, 500, json=True)
        self.bare(load)
        ended, warehouse = self.submitted(load)
        runs = [ended, *(self.submitted(load)[0] for _ in range(RUNS - 1))]
        wall, cpu = rate(load, runs)
        json_wall, json_cpu = rate(as_json, [self.of_json(as_json) for _ in range(RUNS)])
        bare_wall, bare_cpu = rate(load, [self.bare(load) for _ in range(RUNS)])
        self.say("submitted job, 2,000 series, one slot", wall, "samples/s", goal=">= 300 k")
        self.say("  a CPU-second of the TaskManager", cpu, "samples", ratio=cpu / json_cpu, to="JSON", goal=">= 3 x")
        self.say("the same from JSON, a record a sample, one slot", json_wall, "samples/s")
        self.say("  a CPU-second of the TaskManager", json_cpu, "samples")
        self.say("bare rollup, 2,000 series, one slot", bare_wall, "samples/s", goal=">= 800 k")
        self.say("  a CPU-second of the TaskManager", bare_cpu, "samples")
        self.check(load, warehouse)

    def check(self, load: Load, warehouse: Path) -> None:
        """A job that read nothing ends as well: count what it wrote, and its bytes."""
        files = [path for path in (warehouse / SERIES_WINDOWS.name).rglob("part-*") if path.is_file()]
        counted = sum(sum(pq.read_table(path, columns=["sample_count"])[0].to_pylist()) for path in files)
        if counted != load.samples:
            raise RuntimeError(f"{load.samples} samples were sent and {counted} rolled up")
        if any((warehouse / LATE_SAMPLES.name).rglob("part-*")):
            raise RuntimeError("some samples came late")
        size = sum(path.stat().st_size for path in files)
        self.say("bytes a sample in Parquet, as Flink writes it", size / load.samples, "bytes")

    def many_series(self) -> None:
        """100,000 series: the job, the bare rollup, the size of checkpoints."""
        load = self.load(100_000, 30)
        runs = [self.submitted(load)[0] for _ in range(RUNS)]
        wall, cpu = rate(load, runs)
        bare_wall, bare_cpu = rate(load, [self.bare(load) for _ in range(RUNS)])
        self.say("submitted job, 100,000 series, one slot", wall, "samples/s")
        self.say("  a CPU-second of the TaskManager", cpu, "samples")
        self.say("bare rollup, 100,000 series, one slot", bare_wall, "samples/s", goal=">= 400 k")
        self.say("  a CPU-second of the TaskManager", bare_cpu, "samples")
        held = self.held(load)
        self.say("checkpoint of 100,000 series, two open windows", held / (1 << 20), "MiB")

    def held(self, load: Load) -> int:
        """Bytes of a checkpoint after everything was read and before a window was closed by the end of the log."""
        group = f"held-{load.topic}"
        script = job_script(replace(self.rules(load), bounded=False, checkpoint_seconds=5, group=group))
        nowhere = "WITH ('connector' = 'blackhole')"
        for table in (SERIES_WINDOWS, LATE_SAMPLES):
            types = {"BINARY": "BYTES"}
            columns = [f"`{column.name}` {types.get(column.type, column.type)}" for column in table.columns]
            columns += [f"`{name}` STRING" for name in table.partitions]
            made = f"CREATE TEMPORARY TABLE {table.name} ({', '.join(columns)}) {nowhere};\n"
            script = made + script.replace(f"hive.`default`.{table.name}", table.name)
        return self.jobs.held(script, load.topic, group)

    def slots(self) -> None:
        """Samples a CPU-second at 1, 2 and 4 slots: flat is linear."""
        load = self.load(16_000, 480, partitions=8)
        self.submitted(load, 4)
        for parallelism in (1, 2, 4):
            wall, cpu = rate(load, [self.submitted(load, parallelism)[0] for _ in range(RUNS)])
            self.say(f"submitted job, 16,000 series, slots: {parallelism}", cpu, "samples a CPU-second")
            self.say("  wall clock", wall, "samples/s")

    def a_million(self) -> None:
        """1,000,000 series: state on disk, memory bounded."""
        load = self.load(1_000_000, 2)
        on_disk = {"state.backend.type": "rocksdb", "state.backend.rocksdb.memory.fixed-per-slot": "512mb"}
        ended, _ = self.submitted(load, **on_disk)
        wall, cpu = rate(load, [ended])
        self.say("submitted job, 1,000,000 series, RocksDB, one slot", wall, "samples/s")
        self.say("  a CPU-second of the TaskManager", cpu, "samples")
        self.say("  memory of the TaskManager at most", ended.memory_mib, "MiB")


def main() -> None:
    """Measure what is named on the command line, else everything."""
    parts = sys.argv[1:] or ["rates", "many_series", "slots", "a_million"]
    folder = Path(tempfile.mkdtemp(prefix="egpu-bench-"))
    try:
        with running(("kafka", "flink", "hive")) as engines:
            bench = Bench(engines, folder)
            for part in parts:
                getattr(bench, part)()
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"bench": "flink", "rows": bench.rows}))


if __name__ == "__main__":
    main()
