"""How long a scan of 10,000 workloads x 28 days x hourly takes, and its memory. Prints one line of JSON.

Goal: below 60 s and 4 GiB. The tables are made up: loads by day, by night and around the clock, with noise.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from egpu_runtime.contract.units import DAY_MS, GIB
from pipeline.contract.tables import DATA_FILE, WORKLOAD_PROFILE

WORKLOADS = 10_000
DAYS = 28
START_MS = 1_767_571_200_000
MODELS = ("A100", "L20", "T4")
CARD_GIB = (80.0, 48.0, 16.0)


def _lists(values: np.ndarray) -> pa.Array:
    offsets = pa.array(np.arange(0, values.size + 1, 24, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), pa.float64()))


def write_profiles(folder: Path) -> None:
    """One file a day, as the pipeline writes them."""
    random = np.random.default_rng(1)
    number = np.arange(WORKLOADS)
    model = number % len(MODELS)
    card = np.array(CARD_GIB)[model]
    low, high = random.uniform(0.02, 0.15, WORKLOADS), random.uniform(0.2, 0.7, WORKLOADS)
    shift = random.integers(0, 24, WORKLOADS)
    names = [f"service-{index:05d}" for index in number]
    text = {
        "cluster": ["c1"] * WORKLOADS,
        "namespace": [f"ns-{index % 40}" for index in number],
        "workload_kind": ["Deployment"] * WORKLOADS,
        "workload": names,
        "container": ["main"] * WORKLOADS,
        "gpu_model": [MODELS[index] for index in model],
        "tenant": ["t"] * WORKLOADS,
        "priority": ["0"] * WORKLOADS,
        "advice": [""] * WORKLOADS,
    }
    hours = np.arange(24)
    for day in range(DAYS):
        wave = np.clip(np.cos((hours[None, :] - shift[:, None]) / 24 * 2 * np.pi), 0, 1)
        load = wave * random.uniform(0.8, 1.0, wave.shape)
        use = low[:, None] + (high - low)[:, None] * load
        columns = text | {
            "day_start_ms": np.full(WORKLOADS, START_MS + day * DAY_MS),
            "memory_quota_bytes": card * GIB,
            "core_quota_ratio": np.ones(WORKLOADS),
            "memory_total_bytes": card * GIB,
            "hourly_memory_used_bytes_max": _lists(use * card[:, None] * GIB),
            "hourly_core_used_ratio_mean": _lists(use * 0.5),
            "hourly_core_used_ratio_p95": _lists(use * 0.8),
            "memory_used_bytes_median": low * card * GIB,
            "core_idle_window_ratio": np.zeros(WORKLOADS),
            "observed_ratio": np.ones(WORKLOADS),
            "window_count": np.full(WORKLOADS, 288, np.int32),
            "live_replicas": np.ones(WORKLOADS, np.int32),
            "replicas_max": np.ones(WORKLOADS, np.int32),
            "replicas_per_card_max": np.ones(WORKLOADS, np.int32),
            "cards_per_pod_max": np.ones(WORKLOADS, np.int32),
            "gpu_uuids": [[f"GPU-{name}"] for name in names],
        }
        place = (
            folder / WORKLOAD_PROFILE.name / time.strftime("dt=%Y-%m-%d", time.gmtime(START_MS / 1000 + day * 86400))
        )
        place.mkdir(parents=True)
        pq.write_table(pa.table(columns), place / DATA_FILE, compression="zstd")


def main() -> None:
    """Write, scan, print."""
    with tempfile.TemporaryDirectory() as folder:
        write_profiles(Path(folder))
        command = [sys.executable, "-m", "advisor", "scan", "--warehouse", folder, "--format", "json", *sys.argv[1:]]
        started = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True)
        seconds = time.monotonic() - started
    plan = json.loads(done.stdout)
    cards, bound = (sum(total[name] for total in plan["cards"]) for name in ("after", "bound"))
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
    rows = [
        {"what": f"{WORKLOADS:,} workloads x {DAYS} d x hourly", "value": seconds, "unit": "s", "goal": "< 60"},
        {"what": "greatest memory", "value": peak_gib, "unit": "GiB", "goal": "< 4"},
        {"what": "cards after", "value": cards, "unit": "cards", "ratio": cards / bound, "to": "the lower bound"},
    ]
    print(json.dumps({"bench": "scan", "rows": rows}))


if __name__ == "__main__":
    main()
