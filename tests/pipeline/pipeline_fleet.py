"""A small fleet of every kind of source, as samples: what the tests of order, lateness and kills are run on."""

import random

from pipeline_log import STALE, Sample

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000 + 22 * HOUR_MS
"""22:00 UTC, so that a few hours make two days."""


def _container(name: str, pod: int, **more: str) -> dict[str, str]:
    return {
        "__name__": name,
        "node": f"n{pod % 2}",
        "gpu_uuid": f"g{pod % 3}",
        "gpu_model": "A100",
        "tenant": "t",
        "namespace": "s",
        "workload_kind": "Deployment",
        "workload": f"w{pod // 2}",
        "pod": f"p{pod}",
        "pod_uid": f"u{pod}",
        "container": "c",
        **more,
    }


def fleet(seed: int, *, hours: int = 3, step_ms: int = 150_000) -> list[Sample]:
    """Samples in time order; some are stale, some conflict, some pods have gaps, counters reset, labels change."""
    chance = random.Random(seed)
    samples: list[Sample] = []
    busy = dict.fromkeys(range(4), 100.0)
    for time in range(START_MS, START_MS + hours * HOUR_MS, step_ms):
        for pod in range(4):
            priority = str(chance.randint(0, 1))
            busy[pod] = 0.0 if chance.random() < 0.05 else busy[pod] + chance.randint(0, 20)
            quota = _container("egpu_scheduler_container_memory_allocated_bytes", pod)
            samples.append((quota, time, 80.0))
            if chance.random() < 0.3:
                continue
            memory = STALE if chance.random() < 0.05 else float(chance.randint(0, 80))
            samples += [
                (_container("egpu_container_memory_used_bytes", pod, priority=priority), time, memory),
                (_container("egpu_container_core_used_ratio", pod), time, chance.randint(0, 10) / 10),
                (_container("egpu_container_gpu_busy_seconds_total", pod), time, busy[pod]),
            ]
        card = {"UUID": "g9", "modelName": "T4", "Hostname": "n9"}
        samples.append(({"__name__": "DCGM_FI_DEV_FB_USED", **card}, time, float(chance.randint(0, 9))))
        pod_of_card = {**card, "pod": "d", "namespace": "s", "container": "c"}
        samples.append(({"__name__": "DCGM_FI_DEV_GPU_UTIL", **pod_of_card}, time, float(chance.randint(0, 99))))
        owner = {"namespace": "s", "pod": "d", "owner_kind": "Job", "owner_name": f"j{chance.randint(0, 1)}"}
        samples.append(({"__name__": "kube_pod_owner", **owner}, time, 1.0))
    return samples
