"""The closed loop on one machine: a fleet without GPUs, every stage a process of its own, over HTTP and files.

replay -> (remote write) -> collector -> log -> pipeline -> tables -> advisor -> table, HTML page, commits on a branch.
It counts what passes each stage and fails if a stage lost or made up a sample.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from counting import samples_in_log, samples_in_tables
from manifests import write_manifests

from egpu_runtime.contract import metrics

SEED = 7
READY_SECONDS = 20.0
BRANCH = "egpu/rightsizing"
MEMORY_SERIES = frozenset({metrics.CONTAINER_MEMORY_USED.name, metrics.GPU_MEMORY_USED.name})


class Demo:
    """Where things are, and how its processes are run."""

    def __init__(self, programs: Path, output: Path) -> None:
        self.programs = programs.resolve()
        self.output = output.resolve()
        self.log = self.output / "log"
        self.warehouse = self.output / "warehouse"
        self.manifests = self.output / "manifests"

    def command(self, name: str, *arguments: str | Path) -> list[str]:
        return [str(self.programs / name), *(str(argument) for argument in arguments)]

    def run(self, name: str, *arguments: str | Path) -> None:
        """Run a stage in the foreground; its output is the user's, its failure ends the demo."""
        done = subprocess.run(self.command(name, *arguments), check=False)
        if done.returncode != 0:
            raise SystemExit(f"error: {name} {arguments[0]} ended with code {done.returncode}")

    def read(self, name: str, *arguments: str | Path) -> Any:
        """Run a stage and read the JSON it prints."""
        done = subprocess.run(self.command(name, *arguments), check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: {name} {arguments[0]} ended with code {done.returncode}")
        return json.loads(done.stdout)


def say(text: str) -> None:
    """One line of the demo's own, flushed before a child writes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stage(number: int, title: str) -> None:
    """Heading of a stage."""
    say(f"\n[{number}/5] {title}")


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_collector(demo: Demo, port: int) -> "subprocess.Popen[bytes]":
    """Start the collector and wait until it listens."""
    log = (demo.output / "collector.log").open("wb")
    process = subprocess.Popen(
        demo.command("egpu-collector", "serve", "--log-directory", demo.log, "--listen-port", str(port)),
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    raise SystemExit(f"error: the collector did not start: {(demo.output / 'collector.log').read_text()}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM: the collector drains, commits and exits 0."""
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=60) != 0:
        raise SystemExit(f"error: the collector ended with code {process.returncode}")


def send_fleet(demo: Demo) -> int:
    """Replay the synthetic fleet into the collector; samples that were acknowledged."""
    port = free_port()
    collector = start_collector(demo, port)
    summary = demo.output / "replay.json"
    try:
        url = f"http://127.0.0.1:{port}/api/v1/write"
        demo.run("egpu-runtime", "replay", "--synthetic", str(SEED), "--remote-write", url, "--summary-file", summary)
    finally:
        stop(collector)
    return int(json.loads(summary.read_text())["samples_sent"])


def roll_up(demo: Demo) -> int:
    """Log to tables; the samples that were read."""
    summary = demo.output / "pipeline.json"
    demo.run(
        "egpu-pipeline",
        *("run", "--log", demo.log, "--warehouse", demo.warehouse),
        *("--sample-interval-seconds", "120", "--summary-file", summary),
    )
    return int(json.loads(summary.read_text())["samples_read"])


def write_back(demo: Demo) -> None:
    """Manifests as a platform team would keep them, in git; the plan as commits on a branch of it."""
    write_manifests(demo.manifests, demo.warehouse)
    git = ["git", "-C", str(demo.manifests), "-c", "user.name=demo", "-c", "user.email=demo@localhost"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(demo.manifests)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "GPU workloads as they run today"], check=True)
    demo.run(
        "egpu-advisor",
        *("apply", "--warehouse", demo.warehouse, "--manifests", demo.manifests),
        *("--branch", BRANCH, "--no-dry-run"),
    )
    commits = subprocess.run(
        [*git, "rev-list", "--reverse", f"main..{BRANCH}"], check=True, capture_output=True, text=True
    ).stdout.split()
    if not commits:
        raise SystemExit("error: the plan changed no manifest")
    shown = subprocess.run(
        [*git, "show", "--format=%h %s%n%n%b", commits[0]], check=True, capture_output=True, text=True
    ).stdout
    say(f"\n{len(commits)} commits on branch {BRANCH}; the first one:\n\n{shown}")


def main() -> None:
    """Run the loop; the last line is ``cards: B before, A after, bound L``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True, help="folder with the egpu-* programs")
    parser.add_argument("--output", type=Path, required=True, help="folder for log, tables, page and manifests")
    arguments = parser.parse_args()
    demo = Demo(arguments.bin, arguments.output)
    shutil.rmtree(demo.output, ignore_errors=True)
    demo.output.mkdir(parents=True)
    os.environ.setdefault("COLUMNS", str(shutil.get_terminal_size((132, 40)).columns))
    started = time.monotonic()

    stage(1, "a fleet without GPUs, 28 days: replay -> remote write -> collector -> log")
    sent = send_fleet(demo)
    stage(2, "log -> tables")
    read = roll_up(demo)
    logged = samples_in_log(demo.log, MEMORY_SERIES)
    tabled = samples_in_tables(demo.warehouse)
    if sent != read or logged != tabled or not logged:
        raise SystemExit(
            f"error: {sent} sent, {read} read; of the memory use {logged} in the log, {tabled} in the rows"
        )
    say(f"{sent:,} samples acknowledged and read; {logged:,} of memory use in the log, as many in the rows")
    stage(3, "quota against use, the idle first")
    demo.run("egpu-pipeline", "report", "tenants", "--warehouse", demo.warehouse)
    stage(4, "tables -> plan")
    page = demo.output / "plan.html"
    demo.run("egpu-advisor", "scan", "--warehouse", demo.warehouse)
    demo.run("egpu-advisor", "scan", "--warehouse", demo.warehouse, "--format", "html", "--output", page)
    plan = demo.read("egpu-advisor", "scan", "--warehouse", demo.warehouse, "--format", "json")
    stage(5, "plan -> commits")
    write_back(demo)

    before, after, bound = (sum(total[name] for total in plan["cards"]) for name in ("before", "after", "bound"))
    say(f"page: {os.path.relpath(page)}   took {time.monotonic() - started:.0f} s")
    say(f"cards: {before} before, {after} after, bound {bound}")


if __name__ == "__main__":
    main()
