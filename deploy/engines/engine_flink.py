"""Flink: a session cluster of one JobManager and one TaskManager, started without Flink's shell scripts.

The scripts ask a Java program how to divide the memory; here the parts are written out, so that nothing has to be asked
and the sums can be read.
"""

import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine_hive import hadoop_xml
from state import Home, Options, Service, class_path, ports_of

JOBMANAGER_HEAP_MIB = 640
JOBMANAGER_METASPACE_MIB = 384
"""The job's SQL is planned there, with Hive's classes, anew for each submit."""
TASKMANAGER_MIB: Mapping[str, int] = {
    "framework.heap.size": 128,
    "task.heap.size": 1000,
    # The local aggregate's buffer: too small, and every sample is shuffled (100,000 series with 0.1 of 2 GiB).
    "managed.size": 1000,
    "network.min": 256,
    "network.max": 256,
    "framework.off-heap.size": 128,
    "task.off-heap.size": 0,
    "jvm-metaspace.size": 256,
    "jvm-overhead.min": 304,
    "jvm-overhead.max": 304,
}
"""taskmanager.memory.*, MiB; a process of 3072 MiB."""
TASKMANAGER_PROCESS_MIB = sum(
    mib for name, mib in TASKMANAGER_MIB.items() if name not in {"network.min", "jvm-overhead.min"}
)
REGISTERED_SECONDS = 5.0
_EXPORTS = ("java.base/sun.net.util", "java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5")
_OPENS = (
    *(
        "java.lang",
        "java.lang.invoke",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "java.nio",
        "java.text",
        "java.time",
    ),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"),
    *("java.util.regex", "sun.nio.ch"),
)
JAVA_OPTIONS = (
    "-XX:+UseG1GC",
    "-Duser.timezone=UTC",
    *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS),
)
LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c %x - %m%n
logger.netty.name = org.jboss.netty.channel.DefaultChannelPipeline
logger.netty.level = OFF
"""


def config_yaml(ports: Mapping[str, int], folder: Path, slots: int) -> str:
    """config.yaml of both processes; keys are written flat, values as JSON, which is YAML."""
    values: dict[str, object] = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": ports["flink_rpc"],
        "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": ports["flink_rest"],
        "rest.bind-port": str(ports["flink_rest"]),
        "blob.server.port": str(ports["flink_blob"]),
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.rpc.port": str(ports["taskmanager_rpc"]),
        "taskmanager.data.port": ports["taskmanager_data"],
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.cpu.cores": float(slots),
        **{f"taskmanager.memory.{name}": f"{mib}m" for name, mib in TASKMANAGER_MIB.items()},
        "parallelism.default": 1,
        "io.tmp.dirs": str(folder / "tmp"),
        "web.upload.dir": str(folder / "upload"),
        "web.submit.enable": True,
        "web.cancel.enable": True,
        "state.backend.type": "hashmap",
        "execution.checkpointing.dir": (folder / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (folder / "savepoints").as_uri(),
        "execution.checkpointing.interval": "10s",
        "execution.checkpointing.num-retained": 3,
        # Whoever cancels, or loses, a job can go on from where it was.
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # Without it every row between two chained operators is copied.
        "pipeline.object-reuse": True,
        # No last attempt: a broker or metastore may be away for an hour.
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1s",
        "restart-strategy.exponential-delay.max-backoff": "20s",
        "heartbeat.interval": "2000ms",
        "heartbeat.timeout": "10000ms",
        "metrics.reporters": "prom",
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        # The Hive client's threads outlive the job that made them; the check is only about log lines.
        "classloader.check-leaked-classloader": False,
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def flink_services(home: Home, options: Options, install: Path) -> tuple[Service, ...]:
    """JobManager and TaskManager."""
    ports, folder = ports_of(options), home.folder / "flink"
    conf = folder / "conf"
    metastore = {"hive.metastore.uris": f"thrift://127.0.0.1:{ports['metastore']}"}
    files = {
        conf / "config.yaml": config_yaml(ports, folder, options.slots),
        conf / "log4j.properties": LOGGING,
        folder / "hive-conf" / "hive-site.xml": hadoop_xml(metastore),
    }
    environment = {"FLINK_CONF_DIR": str(conf), "FLINK_PLUGINS_DIR": str(install / "plugins")}
    folders = tuple(folder / name for name in ("tmp", "upload", "checkpoints", "savepoints"))
    rest = f"http://127.0.0.1:{ports['flink_rest']}"
    jobmanager = Service(
        name="jobmanager",
        engine="flink",
        arguments=(
            *("-Xms256m", f"-Xmx{JOBMANAGER_HEAP_MIB}m", f"-XX:MaxMetaspaceSize={JOBMANAGER_METASPACE_MIB}m"),
            *_java(home, install, "jobmanager"),
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            *("--configDir", str(conf), "--executionMode", "cluster"),
            *("-D", f"metrics.reporter.prom.port={ports['jobmanager_metrics']}"),
        ),
        environment=environment,
        files=files,
        folders=folders,
        ports={name: ports[name] for name in ("flink_rest", "flink_rpc", "flink_blob", "jobmanager_metrics")},
        ready_port=ports["flink_rest"],
        probe=lambda _: _get(f"{rest}/overview") is not None,
        memory_mib=JOBMANAGER_HEAP_MIB + JOBMANAGER_METASPACE_MIB + 256,
    )
    taskmanager = replace(
        jobmanager,
        name="taskmanager",
        arguments=(
            *_taskmanager_memory(),
            *_java(home, install, "taskmanager"),
            *("org.apache.flink.runtime.taskexecutor.TaskManagerRunner", "--configDir", str(conf)),
            *("-D", f"metrics.reporter.prom.port={ports['taskmanager_metrics']}"),
        ),
        ports={name: ports[name] for name in ("taskmanager_rpc", "taskmanager_data", "taskmanager_metrics")},
        ready_port=ports["taskmanager_rpc"],
        probe=_slots_probe(rest, options.slots),
        after=("jobmanager",),
        memory_mib=TASKMANAGER_PROCESS_MIB,
    )
    return jobmanager, taskmanager


def _taskmanager_memory() -> tuple[str, ...]:
    """The JVM's share of TASKMANAGER_MIB."""
    heap_mib = TASKMANAGER_MIB["framework.heap.size"] + TASKMANAGER_MIB["task.heap.size"]
    direct_mib = sum(TASKMANAGER_MIB[name] for name in ("framework.off-heap.size", "task.off-heap.size", "network.max"))
    return (
        *(f"-Xms{heap_mib}m", f"-Xmx{heap_mib}m", f"-XX:MaxDirectMemorySize={direct_mib}m"),
        f"-XX:MaxMetaspaceSize={TASKMANAGER_MIB['jvm-metaspace.size']}m",
    )


def _java(home: Home, install: Path, name: str) -> tuple[str, ...]:
    """Options of both processes. flink-dist comes last, as in Flink's own scripts."""
    lib = class_path(install / "lib", last="flink-dist-")
    logging = home.folder / "flink" / "conf" / "log4j.properties"
    return (
        *JAVA_OPTIONS,
        f"-Dlog.file={home.logs / name}.log",  # what the web page shows
        f"-Dlog4j.configurationFile={logging.as_uri()}",
        *("-cp", lib),
    )


def _slots_probe(rest: str, slots: int) -> Callable[[float], bool]:
    """Whether TaskManagers heard of since the start offer the slots: a killed one stays listed for a while."""

    def probe(started_seconds: float) -> bool:
        read = _get(f"{rest}/taskmanagers") or {}
        heard = [
            entry["slotsNumber"]
            for entry in read.get("taskmanagers", [])
            if entry["timeSinceLastHeartbeat"] >= started_seconds * 1000  # despite its name a time of day in ms
        ]
        return bool(sum(heard) >= slots)

    return probe


def _get(url: str) -> Any:
    """JSON of an address; None when it does not answer, or not yet with JSON."""
    try:
        with urllib.request.urlopen(url, timeout=REGISTERED_SECONDS) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def describe_flink(home: Home, options: Options, pids: Mapping[str, int]) -> dict[str, Any]:
    """The cluster's part of engines.json; nothing when no JobManager runs. ``pids``: service -> process id."""
    if "jobmanager" not in pids:
        return {}
    folder = home.folder / "flink"
    described = {
        "rest": f"http://127.0.0.1:{ports_of(options)['flink_rest']}",
        "jobmanager_pid": pids["jobmanager"],
        "taskmanager_pids": [pids["taskmanager"]] if "taskmanager" in pids else [],
        "slots": options.slots,
        "checkpoints": (folder / "checkpoints").as_uri(),
        "savepoints": (folder / "savepoints").as_uri(),
        "hive_conf": str(folder / "hive-conf"),
    }
    return {"flink": described}
