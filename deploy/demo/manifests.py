"""Manifests of the demo's workloads: one YAML file each, in the hand of people who write YAML by hand."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from egpu_runtime.contract import resources
from egpu_runtime.contract.units import MIB
from pipeline.contract.tables import DATA_FILE, WORKLOAD_PROFILE

_PLAIN = """\
# {workload}: owned by {tenant}; ask in #{tenant} before you change it
apiVersion: apps/v1
kind: {kind}
metadata:
  name: {workload}
  namespace: {namespace}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {workload}}}
  template:
    metadata:
      labels: {{app: {workload}}}
    spec:
      containers:
        - name: {container}
          image: models/{workload}:stable   # pinned by the release job
          resources:
            limits:
              {gpu}: 1
{quota}"""

_JOB = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: {workload}
  namespace: {namespace}
spec:
  template:
    spec:
      restartPolicy: OnFailure
      containers:
      - name: {container}
        image: "train/{workload}:latest"
        resources:
          limits: {{{gpu}: "1"}}
"""


def last_days(warehouse: Path) -> list[dict[str, Any]]:
    """The last row of every workload in ``workload_profile_1d``: what it asked for on its last day."""
    latest: dict[tuple[str, ...], dict[str, Any]] = {}
    columns = [c for c in WORKLOAD_PROFILE.column_names() if not c.startswith("hourly_")]
    for file in sorted((warehouse / WORKLOAD_PROFILE.name).glob(f"dt=*/{DATA_FILE}")):
        for row in pq.ParquetFile(file).read(columns=columns).to_pylist():
            latest[row["namespace"], row["workload_kind"], row["workload"]] = row
    return list(latest.values())


def write_manifests(folder: Path, warehouse: Path) -> None:
    """One file a workload under ``folder/NAMESPACE/``; quotas as they were on its last day."""
    for row in last_days(warehouse):
        path = folder / str(row["namespace"]) / f"{row['workload']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _JOB if row["workload_kind"] == "Job" else _PLAIN
        path.write_text(
            text.format(
                gpu=resources.GPU,
                workload=row["workload"],
                tenant=row["tenant"],
                kind=row["workload_kind"],
                namespace=row["namespace"],
                replicas=row["live_replicas"],
                container=row["container"],
                quota=_quota(row),
            )
        )


def _quota(row: dict[str, Any]) -> str:
    """Lines of the slice; a whole card is written as people do: without any."""
    indent = " " * 14
    lines = ""
    if row["memory_quota_bytes"] < row["memory_total_bytes"]:
        lines += f"{indent}{resources.GPU_MEMORY}: {round(row['memory_quota_bytes'] / MIB)}   # MiB\n"
    if row["core_quota_ratio"] < 1:
        lines += f"{indent}{resources.GPU_CORES}: {round(row['core_quota_ratio'] * 100)}\n"
    return lines
