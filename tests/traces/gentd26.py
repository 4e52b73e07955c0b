"""GenTD26 (real GPU memory and duty cycle of a serving system) as a fleet: one assumed 48 GiB card and node a pod.

Use: python gentd26.py DATA_FOLDER OUTPUT.parquet
"""

import sys
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from trace_parquet import write_trace

CARD_BYTES = float(48 << 30)
MINUTE_SECONDS = 60


def column(data: Path, name: str) -> pa.Table:
    """One metric: value, timestamp_anon (seconds), container_ip."""
    with tarfile.open(data / "gentd26" / f"{name}_anon.tar.gz") as archive:
        file = archive.extractfile(f"{name}_anon.csv")
        assert file is not None
        return pa.csv.read_csv(file)


def by_minute(table: pa.Table, pods: dict[str, int]) -> dict[tuple[int, int], float]:
    """(minute, pod) -> the greatest value. Samples come every 57 s, so some minutes hold two."""
    found: dict[tuple[int, int], float] = {}
    for seconds, value, pod in zip(
        table["timestamp_anon"].to_pylist(),
        table["value"].to_pylist(),
        table["container_ip"].to_pylist(),
        strict=True,
    ):
        key = (int(seconds // MINUTE_SECONDS), pods[pod])
        found[key] = max(found.get(key, 0.0), value)
    return found


def convert(data: Path, output: Path) -> int:
    """Write the trace in long form; the number of rows. Quota is the whole card, a pod is a workload."""
    memory_table, duty_table = column(data, "pod_gpu_memory_used_bytes"), column(data, "pod_gpu_duty_cycle")
    names = sorted({*memory_table["container_ip"].to_pylist(), *duty_table["container_ip"].to_pylist()})
    pods = {name: number for number, name in enumerate(names)}
    memory, duty = by_minute(memory_table, pods), by_minute(duty_table, pods)
    who = [
        {
            "cluster": "gentd26",
            "node": f"node-{number:03d}",
            "gpu_uuid": f"card-{number:03d}",
            "gpu_model": "assumed 48 GiB",
            "tenant": "generation",
            "namespace": "generation",
            "workload_kind": "Pod",
            "workload": f"pod-{name[:12]}",
            "pod": f"pod-{name[:12]}",
            "container": "server",
            "priority": "0",
        }
        for number, name in enumerate(names)
    ]
    keys = sorted({*memory, *duty})
    nan = float("nan")
    container: npt.NDArray[np.int64] = np.array([pod for _, pod in keys], np.int64)
    columns: dict[str, object] = {
        "timestamp_ms": np.array([minute for minute, _ in keys], np.int64) * MINUTE_SECONDS * 1000,
        "gpu_memory_total_bytes": np.full(len(keys), CARD_BYTES),
        "memory_quota_bytes": np.full(len(keys), nan),
        "core_quota_ratio": np.full(len(keys), nan),
        "memory_used_bytes": np.array([memory.get(key, nan) for key in keys]),
        "core_used_ratio": np.array([duty.get(key, nan) for key in keys]) / 100,
    }
    return write_trace(output, who, [(container, columns)])


if __name__ == "__main__":
    rows = convert(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{rows} rows\n")
