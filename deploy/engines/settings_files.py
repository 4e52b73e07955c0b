"""Settings files for our processes on these engines: HOME/collector.toml and HOME/pipeline.toml, from engines.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTITIONS = 4
"""Of the topic: as many as the slots that the TaskManager has by default."""

SETTINGS_FILES = ("collector.toml", "pipeline.toml")


def settings_files(state: Mapping[str, Any]) -> dict[str, str]:
    """File name -> TOML; nothing while not all engines run. ``state`` is what engines.json holds."""
    if not all(state.get(name) for name in ("kafka", "flink", "hive")):
        return {}
    bootstrap = state["kafka"]["bootstrap"]
    return {
        "collector.toml": _toml(
            {"log": "kafka", "kafka_bootstrap_servers": bootstrap, "kafka_partition_count": PARTITIONS}
        ),
        "pipeline.toml": _toml(
            {
                "source": "windows",
                "kafka_bootstrap_servers": bootstrap,
                "flink_rest_url": state["flink"]["rest"],
                "flink_jar": state.get("flink_jar") or "",
                "hive_conf_directory": state["flink"]["hive_conf"],
            }
        ),
    }


def write_settings_files(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the files, each by one rename."""
    for name, text in settings_files(state).items():
        part = folder / f"{name}.part"
        part.write_text(text)
        part.replace(folder / name)


def _toml(values: Mapping[str, object]) -> str:
    note = "# Written by deploy/engines/engines.py up; for one's own settings copy it.\n"
    return note + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
