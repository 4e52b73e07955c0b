"""What runs: the options, the ports that follow from them, the services, and engines.json, which others read."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from processes import Running, is_alive
from versions import EngineError

HiveAuthentication = Literal["NOSASL", "NONE", "CUSTOM"]
USER = "egpu"
"""May do everything where a listener asks for a user."""
GUEST = "guest"
"""Is known by its password and may do nothing: for the refusal of a right."""
PORT_COUNT = 30
"""Ports that one set takes, from port_base on."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may choose. ``up`` without an option takes what this home was started with before."""

    port_base: int = 29000
    """First of PORT_COUNT ports."""
    slots: int = 4
    """Task slots of the one TaskManager."""
    timezone: str = "UTC"
    """Of Hive's JVMs. Anything but UTC is for tests: rows must not depend on it."""
    warehouse: str = ""
    """Folder of the tables; empty: HOME/warehouse."""
    kafka_sasl: bool = False
    """A second listener with SASL_PLAINTEXT, and rules for its users."""
    hive_auth: HiveAuthentication = "NOSASL"
    """How HiveServer2 asks who comes: not at all, a name that is believed, or one name with a password."""


PORT_OFFSETS: Mapping[str, int] = {
    "kafka": 0,
    "kafka_controller": 1,
    "kafka_sasl": 2,
    "flink_rest": 10,
    "flink_rpc": 11,
    "flink_blob": 12,
    "taskmanager_rpc": 13,
    "taskmanager_data": 14,
    "jobmanager_metrics": 15,
    "taskmanager_metrics": 16,
    "metastore": 20,
    "hiveserver2": 21,
}
"""All on 127.0.0.1, counted from port_base."""


def ports_of(options: Options) -> dict[str, int]:
    """Name -> port."""
    return {name: options.port_base + offset for name, offset in PORT_OFFSETS.items()}


def class_path(folder: Path, *, first: str = "", last: str = "") -> str:
    """Every jar of a folder by name, sorted but for those whose name begins with ``first`` or ``last``.

    With a wildcard the order would be the file system's, and some classes exist twice.
    """
    jars = sorted(folder.glob("*.jar"), key=lambda jar: (_place(jar.name, first, last), jar.name))
    return ":".join(str(jar) for jar in jars)


def _place(name: str, first: str, last: str) -> int:
    if first and name.startswith(first):
        return 0
    return 2 if last and name.startswith(last) else 1


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What has to run once, before the first start of a service."""

    arguments: tuple[str, ...]
    """Of java."""
    done: Path
    """Exists afterwards; while it does, nothing is run."""
    made: Path | None = None
    """What the program makes, to be renamed to ``done``; None: it makes ``done`` itself, in one step."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of an engine: everything needed to start it and to know that it is well."""

    name: str
    engine: str
    arguments: tuple[str, ...]
    """Of java: options, class, arguments."""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str]
    """The files it reads, written before the start; when one changes, a running process is started anew."""
    folders: tuple[Path, ...] = ()
    """Must exist before the start."""
    preparation: Preparation | None = None
    ports: Mapping[str, int]
    """Name -> port that it opens; all must be free before the start."""
    ready_port: int
    """The last one it opens."""
    probe: Callable[[float], bool] = field(default=lambda _: True)
    """Asked once the port is open, with the time of the start (seconds since 1970): is the service well?"""
    after: tuple[str, ...] = ()
    """Services that must be ready before it starts."""
    memory_mib: int
    """Its ceiling."""
    ready_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What engines.json knows of a process that was started."""

    running: Running
    fingerprint: str
    """Of the command and the settings it was started with."""
    ports: Mapping[str, int]
    """Name -> port that it opened."""
    ready_port: int


class Home:
    """One folder with the data, logs and state of one set of engines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.state_file = self.folder / "engines.json"
        self.logs = self.folder / "logs"

    def read(self) -> dict[str, Any]:
        """engines.json; empty when there is none. Raises EngineError when it is none of ours."""
        try:
            read = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EngineError("state", f"{self.state_file} is not JSON: {error}") from error
        if not isinstance(read, dict) or not isinstance(read.get("processes", {}), dict):
            raise EngineError("state", f"{self.state_file} is not a state of engines.py")
        return read

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace engines.json by one rename; only its owner may read it, for it may hold test passwords."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.state_file.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(state, indent=2) + "\n")
        part.replace(self.state_file)

    def options(self) -> Options:
        """The options of the last ``up``, else the defaults."""
        saved = self.read().get("options", {})
        known = {option.name for option in fields(Options)}
        return Options(**{name: value for name, value in saved.items() if name in known})

    def all_records(self) -> dict[str, Record]:
        """Service -> what was started, whether it still runs or not."""
        return {
            name: Record(
                running=Running(pid=int(entry["pid"]), start_ticks=int(entry["start_ticks"])),
                fingerprint=str(entry["fingerprint"]),
                ports=dict(entry["ports"]),
                ready_port=int(entry["ready_port"]),
            )
            for name, entry in self.read().get("processes", {}).items()
        }

    def records(self) -> dict[str, Record]:
        """Service -> what was started and still runs."""
        return {name: record for name, record in self.all_records().items() if is_alive(record.running)}

    def passwords(self) -> dict[str, str]:
        """User -> password of the listeners that ask for one; made up, and written down, once a home."""
        state = self.read()
        if not state.get("passwords"):
            state["passwords"] = {name: secrets.token_hex(12) for name in (USER, GUEST)}
            self.write(state)
        return dict(state["passwords"])

    def warehouse(self, options: Options) -> Path:
        """The folder of the tables."""
        return Path(options.warehouse).resolve() if options.warehouse else self.folder / "warehouse"


def check_options(options: Options) -> None:
    """Raise EngineError for a value that no engine can be started with."""
    if not 1024 <= options.port_base <= 65536 - PORT_COUNT:
        raise EngineError("options", f"--port-base {options.port_base} is not in 1024..{65536 - PORT_COUNT}")
    if not 1 <= options.slots <= 64:
        raise EngineError("options", f"--slots {options.slots} is not in 1..64")
    if options.hive_auth not in get_args(HiveAuthentication):
        raise EngineError(
            "options", f"--hive-auth {options.hive_auth}: one of {', '.join(get_args(HiveAuthentication))}"
        )
    zones = Path("/usr/share/zoneinfo")
    if os.path.isabs(options.timezone) or (zones.is_dir() and not (zones / options.timezone).is_file()):
        raise EngineError("options", f"--timezone {options.timezone} is not known here")


def processes_of(records: Mapping[str, Record]) -> dict[str, Any]:
    """The part of engines.json that ``Home.all_records`` reads."""
    return {
        name: {
            **asdict(record.running),
            "fingerprint": record.fingerprint,
            "ports": dict(record.ports),
            "ready_port": record.ready_port,
        }
        for name, record in records.items()
    }
