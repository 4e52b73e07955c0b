"""Killed at any instant, started again: the tables are those of an undisturbed run, row for row."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import append

KILLS = 12
RECEIVED_MS = START_MS + 10 * HOUR_MS
DRIVER = Path(__file__).parent / "pipeline_killed.py"


def run_killed(folder: Path, step: int, when: str) -> int:
    arguments = ["run", "--log", folder / "log", "--warehouse", folder / "warehouse"]
    bounds = ["--checkpoint-seconds", "0", "--batch-samples-max", "40", "--lateness-seconds", "0"]
    words = [sys.executable, DRIVER, step, when, *arguments, *bounds]
    root = Path(__file__).parents[2]
    return subprocess.run([*map(str, words)], cwd=root, env={"PYTHONPATH": str(root)}, check=False).returncode


def write_log(folder: Path, *, late: int) -> None:
    """Nine hours in small batches, the last of them out of order by hours."""
    samples = fleet(7, hours=9)
    behind = samples[:late]
    batches = [samples[late:][i : i + 20] for i in range(0, len(samples) - late, 20)]
    append(folder / "log", [*batches, behind[: late // 2], behind[late // 2 :]], received_ms=RECEIVED_MS)


def assert_manifests_agree(folder: Path) -> None:
    manifests = sorted((folder / "warehouse").rglob("_manifest.json"))
    assert manifests
    by_hour: dict[str, set[int]] = {}
    for path in manifests:
        facts = json.loads(path.read_text())
        if "hour" in facts:
            by_hour.setdefault(f"{path.parent.parent.name}/{path.parent.name}", set()).add(facts["hour"]["version"])
    assert all(len(versions) == 1 for versions in by_hour.values()), by_hour
    assert not list((folder / "warehouse").rglob(".writing"))


@pytest.mark.end_to_end
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_seeded_instants(run_log, rows_of, seed: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    chance = random.Random(seed)
    write_log(tmp_path, late=30)
    kills = 0
    while kills < KILLS:
        code = run_killed(tmp_path, chance.randint(1, 8), chance.choice(["before", "after"]))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 10
    run_log(tmp_path, lateness_seconds=0, checkpoint_seconds=0)
    run_log(tmp_path, "undisturbed")
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")
    assert_manifests_agree(tmp_path)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_killed_once(run_log, rows_of, step: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Step 1 is the first data file, 2 its manifest, 3 the second table's file."""
    write_log(tmp_path, late=10)
    assert run_killed(tmp_path, step, "before") == -signal.SIGKILL
    run_log(tmp_path, lateness_seconds=0)
    run_log(tmp_path, "undisturbed")
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")
    assert_manifests_agree(tmp_path)
