"""Containers of the tests about memory: processes of clients/quota.c with one region on the simulated driver."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import building
from agent import Region, make_region
from children import Child

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
CONTEXT_MIB = 300
"""What a context takes on the simulated card."""
ROOM_MIB = 64
"""Quota beyond one context."""
SECONDS_MAX = 120
"""Bounds a hang on a busy machine."""


@dataclass
class Container:
    """Processes with one region on one simulated card."""

    folder: Path
    cuda: str
    region: Region | None
    device: int = 0
    """The one that is used, of as many cards and one row each."""
    extra: dict[str, str] = field(default_factory=dict)

    def start(self, script: str, *, hooked: bool = True) -> subprocess.Popen[str]:
        program = building.client("quota", "-lcuda", cuda=self.cuda)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EGPU_")},
            "LD_LIBRARY_PATH": str(building.driver(self.cuda)),
            "EGPU_SIM_STATE": str(self.folder / "card"),
            "EGPU_SIM_CARDS": str(self.device + 1),
            "EGPU_REGION": str(self.region.path) if self.region else "",
            **self.extra,
        }
        if hooked:
            environment["LD_PRELOAD"] = str(building.hook())
        return Child(
            [program, *([f"device:{self.device}"] if self.device else []), *in_bytes(script).split()],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *, hooked: bool = True) -> tuple[str, str]:
        """Answers, and what was said on stderr."""
        with self.start(script, hooked=hooked) as process:
            output, errors = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0, errors
        return answers(output), errors

    def classes(self) -> dict[str, int]:
        """Charged bytes by class, without the zeros."""
        assert self.region is not None
        charged = self.region.usage().cards[self.device].charged_bytes_by_class
        return {name: value for name, value in charged.items() if value}

    def charged_mib(self) -> float:
        assert self.region is not None
        return self.region.usage().cards[self.device].charged_bytes / MIB


def uuid_of(card: int, kind: str = "GPU") -> str:
    """As the simulated driver names its cards."""
    return f"{kind}-45475055-5349-4d00-8000-{card:012x}"


def in_bytes(script: str) -> str:
    return re.sub(r"(\d+)M", lambda match: str(int(match[1]) * MIB), script)


def answers(output: str) -> str:
    """One line; whole MiB as such."""
    return "; ".join(re.sub(r"\b(\d{6,20})\b", lambda m: f"{int(m[1]) // MIB}M", line) for line in output.splitlines())


def check(given: Container, script: str, expected: str) -> None:
    """What a process answers to `script` after its first words, init and context."""
    said, errors = given.run(f"context {script}")
    assert said.removeprefix("init 0; context 0; ") == expected, errors


def until_it_waits(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline().strip()) != ".":
        assert line, process.stderr.read() if process.stderr else ""
        lines.append(line)
    return answers("\n".join(lines))


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@dataclass
class Maker:
    folder: Path
    cuda: str

    def __call__(self, room_mib: int = ROOM_MIB, contexts: int = 1, device: int = 0, **limits: object) -> Container:
        quota = (CONTEXT_MIB * contexts + room_mib) * MIB
        rows = [
            CardLimits(uuid_of(card), memory_quota_bytes=quota, **limits)  # type: ignore[arg-type]
            for card in range(device + 1)
        ]
        return Container(self.folder, self.cuda, make_region(self.folder / "region", cards=rows), device)
