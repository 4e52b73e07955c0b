"""Real engines for tests: Kafka, Flink, Hive, each real processes with ports and data of their own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parents[1] / "deploy" / "engines" / "engines.py"
PORT_BASES = range(20_000, 32_000, 100)
"""Below the ports that Linux gives to outgoing connections."""
PORT_COUNT = 30
UP_SECONDS_MAX = 900.0
"""The first start on a machine downloads and installs."""


def engines(verb: str, *arguments: object, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
    """Run a verb of engines.py; its exit code must be ``code`` unless that is None."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), verb, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=UP_SECONDS_MAX,
        check=False,
    )
    assert code is None or done.returncode == code, (
        f"engines.py {verb} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


@contextmanager
def running(
    only: Iterable[str] = ("kafka",), *, home: Path | None = None, **options: object
) -> Iterator[dict[str, Any]]:
    """Engines that run while the block does; yields engines.json (see deploy/engines/README.md).

    Without options the set whose home EGPU_TEST_ENGINES names is used, if it does, and left running. Options are flags
    of ``up``: ``slots=2``, ``timezone="Asia/Tokyo"``, ``kafka_sasl=True``, ``hive_auth="CUSTOM"``.
    """
    names = ",".join(only)
    given = os.environ.get("EGPU_TEST_ENGINES", "")
    if given and home is None and not options:
        engines("up", "--home", given, "--only", names)
        yield read_state(Path(given))
        return
    with tempfile.TemporaryDirectory(prefix="egpu-engines-") as name:
        folder = home or Path(name)
        flags = ["--port-base", free_port_base()]
        for option, value in options.items():
            flag = f"--{option.replace('_', '-')}"
            flags += [flag] if value is True else [flag, value]
        try:
            engines("up", "--home", folder, "--only", names, *flags)
            yield read_state(folder)
        finally:
            engines("wipe", "--home", folder)


def read_state(home: Path) -> dict[str, Any]:
    """engines.json of a home."""
    content: dict[str, Any] = json.loads((home / "engines.json").read_text())
    return content


def free_port_base() -> int:
    """First of PORT_COUNT ports that nobody listens on; those who look at the same time look elsewhere."""
    start = os.getpid() % len(PORT_BASES)
    bases = [*PORT_BASES[start:], *PORT_BASES[:start]]
    return next(base for base in bases if all(map(_is_free, range(base, base + PORT_COUNT))))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
