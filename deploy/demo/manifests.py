"""Manifests of the demo's workloads: one YAML file each, in the hand of people who write YAML by hand."""

from pathlib import Path
from typing import Any

MIB = 1 << 20

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
              egpu.io/gpu: 1
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
          limits: {{egpu.io/gpu: "1"}}
"""


def write_manifests(folder: Path, workloads: list[dict[str, Any]]) -> None:
    """One file a workload under ``folder/NAMESPACE/``; quotas as the report gives them (bytes, shares of a card)."""
    for row in workloads:
        path = folder / str(row["namespace"]) / f"{row['workload']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _JOB if row["workload_kind"] == "Job" else _PLAIN
        path.write_text(
            text.format(
                workload=row["workload"],
                tenant=row["tenant"],
                kind=row["workload_kind"],
                namespace=row["namespace"],
                replicas=row["replicas"],
                container=row["container"],
                quota=_quota(row),
            )
        )


def _quota(row: dict[str, Any]) -> str:
    """Lines of the slice; a whole card is written as people do: without any."""
    indent = " " * 14
    lines = ""
    if row["memory_quota_bytes"] < row["memory_total_bytes"]:
        lines += f"{indent}egpu.io/gpu-memory: {round(row['memory_quota_bytes'] / MIB)}   # MiB\n"
    if row["core_quota_ratio"] < 1:
        lines += f"{indent}egpu.io/gpu-cores: {round(row['core_quota_ratio'] * 100)}\n"
    return lines
