"""Flink's REST API, as far as the job needs it: jars, jobs, checkpoints, savepoints (flink-docs ops/rest_api, v1).

Every failure a person can act on is one sentence; :class:`FlinkRefused` is told apart, for a caller may go back.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from egpu_runtime.contract.process import Failure

ANSWER_SECONDS_MAX: Final = 60.0
"""Longest wait for an answer; starting a job answers after its SQL is planned and the metastore was asked."""

SAVEPOINT_SECONDS_MAX: Final = 600.0
START_SECONDS_MAX: Final = 120.0
SLOTS_SECONDS_MAX: Final = 30.0
"""Longest wait for free slots: TaskManagers register some seconds after the JobManager answers."""

_POLL_SECONDS: Final = 0.3

ENDED: Final = frozenset({"FINISHED", "CANCELED", "FAILED", "SUSPENDED"})
"""States from which a job does not come back by itself."""

_NO_SLOTS: Final = "NoResourceAvailableException"
_CAUSED_BY: Final = "Caused by: "


class FlinkRefused(Failure):
    """Flink did not do what was asked, as taking a job, or the state it should begin with; the message is its cause."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster at a glance."""

    version: str
    task_managers: int
    slots_total: int
    slots_free: int


@dataclass(frozen=True, slots=True)
class Jar:
    """An uploaded jar; ``name`` is the file name it was given."""

    jar_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job the JobManager knows: running or ended. Times are ms UTC."""

    job_id: str
    name: str
    state: str
    since_ms: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A completed checkpoint or savepoint: where, when (ms UTC), how large, how long it took."""

    path: str
    time_ms: int
    state_bytes: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Of one job: how many completed and failed since it was started, and the last one that completed."""

    completed: int
    failed: int
    last: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Start:
    """What to run: main class with its arguments, configuration, parallelism, and the state to begin with, if any."""

    main_class: str
    arguments: Sequence[str]
    parallelism: int
    configuration: Mapping[str, str] = field(default_factory=dict)
    state_path: str = ""


def root_cause(trace: str) -> str:
    """The innermost cause of a Java stack trace as one line, without the package of its class."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix(_CAUSED_BY) for line in lines if line.startswith(_CAUSED_BY)]
    line = causes[-1] if causes else (lines[0] if lines else "no reason given")
    kind, colon, message = line.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}" if "." in kind and " " not in kind else line


class FlinkRest:
    """One Flink cluster by the address of its JobManager's REST API."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def _ask(self, method: str, path: str, body: bytes | None = None, *, content: str = "application/json") -> Any:
        try:
            request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": content}, method=method)
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise FlinkRefused(_reason(error.read(), f"HTTP {error.code}")) from error
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Failure(f"no Flink cluster at {self.url}: {reason}") from error
        try:
            return json.loads(text or b"{}")
        except ValueError as error:
            raise self._strange() from error

    def _strange(self) -> Failure:
        return Failure(f"what answers at {self.url} is not Flink's REST API")

    def _get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _post(self, path: str, content: Mapping[str, object]) -> Any:
        return self._ask("POST", path, json.dumps(content).encode())

    def cluster(self) -> Cluster:
        """Version, TaskManagers and slots."""
        found = self._get("/overview")
        try:
            return Cluster(
                found["flink-version"], found["taskmanagers"], found["slots-total"], found["slots-available"]
            )
        except (KeyError, TypeError) as error:
            raise self._strange() from error

    def configuration(self) -> Mapping[str, str]:
        """The JobManager's configuration, by key."""
        return {each["key"]: each["value"] for each in self._get("/jobmanager/config")}

    def jars(self) -> list[Jar]:
        """Jars that were uploaded, newest first."""
        files = sorted(self._get("/jars")["files"], key=lambda each: -int(each["uploaded"]))
        return [Jar(each["id"], each["name"]) for each in files]

    def upload(self, content: bytes, name: str) -> Jar:
        """Upload a jar under a file name."""
        boundary = "----egpu-jar"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="jarfile"; filename="{name}"\r\n'
            "Content-Type: application/x-java-archive\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        answer = self._ask("POST", "/jars/upload", body, content=f"multipart/form-data; boundary={boundary}")
        return Jar(str(answer["filename"]).rpartition("/")[2], name)

    def run(self, jar: Jar, start: Start) -> str:
        """Start a job and return its id; it may still fail, see :meth:`await_running`. Raises FlinkRefused."""
        content: dict[str, object] = {
            "entryClass": start.main_class,
            "programArgsList": list(start.arguments),
            "parallelism": start.parallelism,
            "flinkConfiguration": dict(start.configuration),
        }
        if start.state_path:
            content["savepointPath"] = start.state_path
        return str(self._post(f"/jars/{jar.jar_id}/run", content)["jobid"])

    def jobs(self) -> list[Job]:
        """Jobs the JobManager remembers, the newest first."""
        answer = self._get("/jobs/overview")
        try:
            found = [
                Job(each["jid"], each["name"], each["state"], each["last-modification"], each["start-time"])
                for each in answer["jobs"]
            ]
        except (KeyError, TypeError) as error:
            raise self._strange() from error
        return sorted(found, key=lambda job: -job.start_ms)

    def parameters(self, job_id: str) -> Mapping[str, str]:
        """The global job parameters a job was started with."""
        found = self._get(f"/jobs/{job_id}/config").get("execution-config", {})
        parameters: Mapping[str, str] = found.get("user-config", {})
        return parameters

    def checkpoints(self, job_id: str) -> Checkpoints:
        """What a job keeps to be started again from."""
        found = self._get(f"/jobs/{job_id}/checkpoints")
        latest = [found["latest"][kind] for kind in ("completed", "savepoint") if found["latest"].get(kind)]
        last = max(latest, key=lambda each: each["latest_ack_timestamp"], default=None)
        return Checkpoints(found["counts"]["completed"], found["counts"]["failed"], last and _checkpoint(last))

    def failure(self, job_id: str) -> str:
        """The root cause of a job's last failure, empty when it had none."""
        entries = self._get(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return root_cause(entries[0]["stacktrace"]) if entries else ""

    def restarts(self, job_id: str) -> int:
        """How often the cluster restarted a running job since it was submitted."""
        found = self._get(f"/jobs/{job_id}/metrics?get=numRestarts")
        return int(found[0]["value"]) if found else 0

    def records_behind(self, job_id: str) -> int | None:
        """Kafka records not yet read, over all partitions; None where the sources do not say."""
        total = None
        for vertex in self._get(f"/jobs/{job_id}")["vertices"]:
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/metrics"
            names = [each["id"] for each in self._get(path) if each["id"].endswith(".pendingRecords")]
            for start in range(0, len(names), 50):
                values = self._get(f"{path}?get={','.join(names[start : start + 50])}")
                total = (total or 0) + sum(max(0, int(float(each["value"]))) for each in values)
        return total

    def state(self, job_id: str) -> str:
        """State of a job, with ``STARTING`` for one that runs while some of its tasks do not yet."""
        found = self._get(f"/jobs/{job_id}")
        counts = found["status-counts"]
        waiting = sum(count for name, count in counts.items() if name not in ("RUNNING", "FINISHED"))
        return "STARTING" if found["state"] == "RUNNING" and waiting else str(found["state"])

    def await_slots(self, count: int) -> None:
        """Wait until so many slots are free. Raises FlinkRefused when they do not become free."""
        deadline = time.monotonic() + SLOTS_SECONDS_MAX
        while (cluster := self.cluster()).slots_free < count:
            if time.monotonic() > deadline or count > cluster.slots_total > 0:
                raise FlinkRefused(
                    f"the job needs {count} slots, the cluster has {cluster.slots_total} on "
                    f"{cluster.task_managers} TaskManagers, {cluster.slots_free} of them free"
                )
            time.sleep(_POLL_SECONDS)

    def await_running(self, job_id: str) -> None:
        """Wait until every task runs. Raises FlinkRefused with the cause when the job fails first."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while (state := self.state(job_id)) not in ("RUNNING", "FINISHED"):
            cause = self.failure(job_id)
            if state in ENDED or (cause and _NO_SLOTS not in cause):
                raise FlinkRefused(cause or f"the job is {state}")
            if time.monotonic() > deadline:
                cluster = self.cluster()
                raise FlinkRefused(
                    f"not all tasks run after {START_SECONDS_MAX:.0f} s: the job is {state}, "
                    f"{cluster.slots_free} of {cluster.slots_total} slots are free"
                )
            time.sleep(_POLL_SECONDS)

    def await_end(self, job_id: str) -> str:
        """Wait until a job has ended; its last state."""
        deadline = time.monotonic() + SAVEPOINT_SECONDS_MAX
        while (state := self.state(job_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise Failure(f"job {job_id} is still {state} after {SAVEPOINT_SECONDS_MAX:.0f} s")
            time.sleep(_POLL_SECONDS)
        return state

    def cancel(self, job_id: str) -> None:
        """End a job at once and wait for it; its last checkpoint stays."""
        self._ask("PATCH", f"/jobs/{job_id}?mode=cancel")
        self.await_end(job_id)

    def stop(self, job_id: str, folder: str, *, drain: bool) -> str:
        """End a job with a savepoint and return its path; ``drain`` closes every window first."""
        path = self._savepoint(job_id, "stop", {"targetDirectory": folder, "drain": drain})
        self.await_end(job_id)
        return path

    def savepoint(self, job_id: str, folder: str) -> str:
        """Take a savepoint of a job that runs on; its path."""
        return self._savepoint(job_id, "savepoints", {"target-directory": folder, "cancel-job": False})

    def _savepoint(self, job_id: str, verb: str, content: Mapping[str, object]) -> str:
        request = self._post(f"/jobs/{job_id}/{verb}", content)["request-id"]
        deadline = time.monotonic() + SAVEPOINT_SECONDS_MAX
        while (found := self._get(f"/jobs/{job_id}/savepoints/{request}"))["status"]["id"] != "COMPLETED":
            if time.monotonic() > deadline:
                raise Failure(f"no savepoint of job {job_id} after {SAVEPOINT_SECONDS_MAX:.0f} s")
            time.sleep(_POLL_SECONDS)
        operation = found["operation"]
        if "failure-cause" in operation:
            raise Failure(f"no savepoint of job {job_id}: {root_cause(operation['failure-cause']['stack-trace'])}")
        return str(operation["location"])


def _checkpoint(found: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        found["external_path"], found["latest_ack_timestamp"], found["state_size"], found["end_to_end_duration"]
    )


def _reason(body: bytes, otherwise: str) -> str:
    """What Flink says went wrong: the last of its messages is the most exact one."""
    try:
        errors = json.loads(body)["errors"]
    except (ValueError, KeyError, TypeError):
        return otherwise
    return root_cause(str(errors[-1])) if errors else otherwise
