"""Kafka, Flink and Hive as one set that tests may kill parts of; each test takes names of its own on it."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engines_running


@dataclass(frozen=True)
class Engines:
    """The engines of one home."""

    home: Path

    def up(self) -> None:
        """Start what does not run."""
        engines_running.engines("up", "--home", self.home)

    @property
    def state(self) -> dict[str, Any]:
        """engines.json."""
        return engines_running.read_state(self.home)

    def kill(self, service: str) -> None:
        """kill -9 of one service: kafka, jobmanager, taskmanager, metastore or hiveserver2."""
        os.kill(int(self.state["processes"][service]["pid"]), signal.SIGKILL)
