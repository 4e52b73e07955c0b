"""Kafka: one broker that is its own controller, on 127.0.0.1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from state import GUEST, USER, Home, Options, Preparation, Service, class_path, ports_of

HEAP_MIB = 512
DIRECT_MIB = 256
NODE_ID = 1
CLUSTER_ID = "ZWdwdS1vbmUtYnJva2VyMQ"
"""Any 16 bytes in base64: one home, one cluster."""


def server_properties(ports: Mapping[str, int], data: Path, *, passwords: dict[str, str] | None) -> str:
    """server.properties of the only broker; ``passwords`` (user -> password) adds the SASL listener."""
    listeners = [f"PLAINTEXT://127.0.0.1:{ports['kafka']}"]
    protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
    rules: dict[str, object] = {}
    if passwords is not None:
        listeners.append(f"SASL_PLAINTEXT://127.0.0.1:{ports['kafka_sasl']}")
        protocols.append("SASL_PLAINTEXT:SASL_PLAINTEXT")
        rules = _sasl_rules(passwords)
    controller = f"127.0.0.1:{ports['kafka_controller']}"
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{controller}",
        "listeners": ",".join([*listeners, f"CONTROLLER://{controller}"]),
        "advertised.listeners": ",".join(listeners),
        "listener.security.protocol.map": ",".join(protocols),
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.partitions": 4,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 2,
        "group.initial.rebalance.delay.ms": 0,
        # A collector that names a topic wrongly must hear of it.
        "auto.create.topics.enable": "false",
        "message.max.bytes": 4 * 2**20,
        "replica.fetch.max.bytes": 4 * 2**20,
        "log.retention.hours": 24,
        "log.segment.bytes": 256 * 2**20,
        **rules,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _sasl_rules(passwords: dict[str, str]) -> dict[str, object]:
    users = " ".join(f'user_{name}="{password}"' for name, password in sorted(passwords.items()))
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f"{login} {users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The plain listener's users are ANONYMOUS, the broker's own requests to its controller too.
        "super.users": f"User:ANONYMOUS;User:{USER}",
        "allow.everyone.if.no.acl.found": "false",
    }


LOGGING = """\
Configuration:
  status: WARN
  Appenders:
    Console:
      name: STDOUT
      PatternLayout: {pattern: "%d{yyyy-MM-dd HH:mm:ss,SSS} %p %m (%c)%n"}
  Loggers:
    Root:
      level: INFO
      AppenderRef: {ref: STDOUT}
"""
"""To the console, which is HOME/logs/kafka.log."""


def kafka_services(home: Home, options: Options, install: Path) -> tuple[Service, ...]:
    """The broker."""
    lib = class_path(install / "lib")
    ports = ports_of(options)
    folder = home.folder / "kafka"
    names = ["kafka", "kafka_controller", *(["kafka_sasl"] if options.kafka_sasl else [])]
    passwords = home.passwords() if options.kafka_sasl else None
    properties, logging = folder / "conf" / "server.properties", folder / "conf" / "log4j2.yaml"
    log_option = f"-Dlog4j2.configurationFile={logging.as_uri()}"
    tool = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties))
    return (
        Service(
            name="kafka",
            engine="kafka",
            arguments=(
                "-Xms256m",
                f"-Xmx{HEAP_MIB}m",
                f"-XX:MaxDirectMemorySize={DIRECT_MIB}m",
                "-XX:+UseG1GC",
                "-XX:+ExitOnOutOfMemoryError",
                log_option,
                f"-Dkafka.logs.dir={home.logs}",
                *("-cp", lib, "kafka.Kafka", str(properties)),
            ),
            files={properties: server_properties(ports, folder / "data", passwords=passwords), logging: LOGGING},
            preparation=Preparation(
                arguments=(log_option, "-cp", lib, *tool), done=folder / "data" / "meta.properties"
            ),
            ports={name: ports[name] for name in names},
            ready_port=ports["kafka"],
            memory_mib=HEAP_MIB + DIRECT_MIB + 256,
        ),
    )


def describe_kafka(home: Home, options: Options, pids: Mapping[str, int]) -> dict[str, Any]:
    """The broker's part of engines.json; nothing when it does not run. ``pids``: service -> process id."""
    if "kafka" not in pids:
        return {}
    ports = ports_of(options)
    described: dict[str, Any] = {"bootstrap": f"127.0.0.1:{ports['kafka']}", "pid": pids["kafka"]}
    if options.kafka_sasl:
        passwords = home.passwords()
        described["sasl"] = {
            "bootstrap": f"127.0.0.1:{ports['kafka_sasl']}",
            "protocol": "SASL_PLAINTEXT",
            "mechanism": "PLAIN",
            "user": USER,
            "password": passwords[USER],
            "guest": GUEST,
            "guest_password": passwords[GUEST],
        }
    return {"kafka": described}
