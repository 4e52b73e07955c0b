"""Starts, watches and stops the services of one home."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from installing import file_lock
from maven import java_program
from processes import available_mib, is_alive, listens, port_owner, resident_mib, start, stop, tail
from settings_files import SETTINGS_FILES
from state import Home, Options, Record, Service, processes_of
from versions import ENGINES, EngineError

POLL_SECONDS = 0.2
RECOVER_SECONDS = 60.0
"""For a process that runs to be well again after those it depends on were started anew."""
DATA_FOLDERS = (*ENGINES, "logs", "run", "warehouse")
"""What ``wipe`` removes of a home, and nothing else."""

Describe = Callable[[Mapping[str, Record]], dict[str, Any]]
"""What the engines say of themselves in engines.json, from what runs."""


@dataclass
class _Rising:
    """A service on its way up."""

    service: Service
    record: Record
    process: "subprocess.Popen[bytes] | None"
    """None: it ran before."""
    started_seconds: float
    """Since 1970."""
    deadline: float
    """On the monotonic clock, seconds."""


class Cluster:
    """The services of one home. Every method holds the home's lock; two at once wait for each other."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def up(self, services: tuple[Service, ...], options: Options, describe: Describe) -> list[EngineError]:
        """Start what does not run and start anew what should run with other settings; returns what failed."""
        with file_lock(self._home.folder / "lock"):
            records = self._home.records()
            changed = [
                service.name
                for service in services
                if service.name in records and records[service.name].fingerprint != fingerprint(service)
            ]
            if changed:
                self._stop(records, changed)
            try:
                return self._start_missing(services, records)
            finally:
                self._save(options, records, describe)

    def down(self, names: tuple[str, ...] | None = None) -> list[str]:
        """Stop the named services, or all of the home; returns the names of those that ran."""
        with file_lock(self._home.folder / "lock"):
            records = self._home.records()
            chosen = [name for name in records if names is None or name in names]
            self._stop(records, chosen)
            state = self._home.read()
            if state:
                self._home.write({**state, "processes": processes_of(records)})
            return chosen

    def wipe(self) -> list[str]:
        """Stop everything and remove the data, logs and state of the home; a warehouse elsewhere stays."""
        stopped = self.down()
        with file_lock(self._home.folder / "lock"):
            for name in DATA_FOLDERS:
                with suppress(FileNotFoundError):
                    shutil.rmtree(self._home.folder / name)
            for name in (*SETTINGS_FILES, self._home.state_file.name):
                (self._home.folder / name).unlink(missing_ok=True)
        return stopped

    def _save(self, options: Options, records: Mapping[str, Record], describe: Describe) -> None:
        described = describe(records)
        kept = {"options": asdict(options), "passwords": self._home.passwords(), "processes": processes_of(records)}
        self._home.write({**described, **kept})

    def _stop(self, records: dict[str, Record], names: list[str]) -> None:
        """Last started, first stopped: a server before the metastore it writes its sessions to."""
        stop(records.pop(name).running for name in list(reversed(names)))

    def _start_missing(self, services: tuple[Service, ...], records: dict[str, Record]) -> list[EngineError]:
        """Start each service as soon as those before it are ready; adds what is up to ``records``."""
        failed: dict[str, EngineError] = {}
        waiting = [service for service in services if service.name not in records]
        rising = [_running(service, records[service.name]) for service in services if service.name in records]
        while waiting or rising:
            unfinished = {service.name for service in waiting} | {each.service.name for each in rising}
            for service in [each for each in waiting if not unfinished & set(each.after)]:
                waiting.remove(service)
                try:
                    if failed.keys() & set(service.after):
                        raise EngineError(
                            service.engine, f"{service.name} was not started: it needs {service.after[0]}"
                        )
                    rising.append(self._begin(service))
                except EngineError as error:
                    failed[service.name] = error
            for each in list(rising):
                if each.process is None and not is_alive(each.record.running):
                    # Killed a moment ago: it counted as alive when the records were read.
                    rising.remove(each)
                    del records[each.service.name]
                    waiting.append(each.service)
                    continue
                try:
                    if self._is_ready(each):
                        rising.remove(each)
                        records[each.service.name] = each.record
                except EngineError as error:
                    rising.remove(each)
                    failed[each.service.name] = error
                    if each.process is not None:
                        stop([each.record.running])
            time.sleep(POLL_SECONDS if rising else 0)
        return list(failed.values())

    def _begin(self, service: Service) -> "_Rising":
        check_start(service)
        log = self._log(service)
        for folder in (self._home.logs, self._home.folder / "run", *service.folders):
            folder.mkdir(parents=True, exist_ok=True)
        for path, text in service.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)
        java = java_program()
        self._prepare(service, java)
        argument_file = self._home.folder / "run" / f"{service.name}.arguments"
        argument_file.write_text("".join(f"{_quoted(argument)}\n" for argument in service.arguments))
        begun = time.time()
        running, process = start(
            [java, f"@{argument_file}"], environment=service.environment, folder=self._home.folder / "run", log=log
        )
        record = Record(
            running=running,
            fingerprint=fingerprint(service),
            ports=service.ports,
            ready_port=service.ready_port,
        )
        return _Rising(service, record, process, begun, time.monotonic() + service.ready_seconds)

    def _prepare(self, service: Service, java: str) -> None:
        preparation = service.preparation
        if preparation is None or preparation.done.exists():
            return
        say(f"{service.name}: preparing its store (once)")
        if preparation.made is not None and preparation.made.exists():
            shutil.rmtree(preparation.made)  # of a run that was killed
        log = self._home.logs / f"{service.name}-prepare.log"
        argument_file = self._home.folder / "run" / f"{service.name}-prepare.arguments"
        argument_file.write_text("".join(f"{_quoted(argument)}\n" for argument in preparation.arguments))
        _, process = start(
            [java, f"@{argument_file}"], environment=preparation.environment, folder=self._home.folder / "run", log=log
        )
        made = preparation.made or preparation.done
        if process.wait() != 0 or not made.exists():
            raise EngineError(
                service.engine, f"{service.name}: preparing ended with {process.returncode}; {_ending(log)}"
            )
        made.rename(preparation.done)

    def _is_ready(self, rising: "_Rising") -> bool:
        """Whether the service listens. Raises EngineError when it ended or its time is over."""
        service = rising.service
        code = rising.process.poll() if rising.process is not None else None
        if code is not None:
            raise EngineError(service.engine, f"{service.name} ended with {code}; {_ending(self._log(service))}")
        if listens(rising.record.running.pid, service.ready_port) and service.probe(rising.started_seconds):
            return True
        if time.monotonic() > rising.deadline:
            late = f"{service.name} (pid {rising.record.running.pid}) is not ready on port {service.ready_port}"
            raise EngineError(service.engine, f"{late}; {_ending(self._log(service))}")
        return False

    def _log(self, service: Service) -> Path:
        return self._home.logs / f"{service.name}.log"


def check_start(service: Service) -> None:
    """Raise EngineError when a port is taken or the memory is not there: better now than half started."""
    for name, port in service.ports.items():
        owner = port_owner(port)
        if owner is not None:
            raise EngineError(service.engine, f"port {port} ({name}) is taken by {owner}; choose another --port-base")
    free = available_mib()
    if free < service.memory_mib:
        raise EngineError(service.engine, f"{service.name} may take {service.memory_mib} MiB, {free} MiB are free")


def _running(service: Service, record: Record) -> _Rising:
    """A service that was up already is looked at again: a TaskManager comes back to a new JobManager by itself."""
    return _Rising(service, record, None, 0.0, time.monotonic() + RECOVER_SECONDS)


def fingerprint(service: Service) -> str:
    """Changes exactly when a service would be started in another way: arguments, environment or files."""
    started_by = repr((service.arguments, sorted(service.environment.items()), sorted(service.files.items())))
    return hashlib.sha256(started_by.encode()).hexdigest()


def status_lines(home: Home) -> tuple[list[str], bool]:
    """One line a service of the home: what runs where; and whether all of them are well."""
    lines, well = [], True
    for name, record in sorted(home.all_records().items(), key=lambda item: item[1].ready_port):
        pid = record.running.pid
        alive = is_alive(record.running)
        listening = alive and listens(pid, record.ready_port)
        well = well and listening
        if alive:
            word = "up" if listening else "deaf"
            ports = " ".join(f"{port} ({use})" for use, port in record.ports.items())
            lines.append(f"{name:<12} {word:<5} pid {pid:<8} {resident_mib(pid):>5} MiB  {ports}")
        else:
            lines.append(f"{name:<12} died  its log: {home.logs / name}.log")
    return lines, well


def say(line: str) -> None:
    """One line on stderr, which is where progress goes."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _quoted(argument: str) -> str:
    """For java's argument files: blanks split and # begins a comment, a backslash escapes, unless in quotes."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ending(log: Path) -> str:
    return f"the end of {log}:\n{tail(log)}"
