"""The metric table: our series and their labels; ``exporters`` has the foreign series accepted in their place.

Everything that names a series anywhere in the project reads it here. The reference page
``docs/reference/metrics.md`` is generated from these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter", "info"]
Subject = Literal["card", "container", "pod", "owner"]
"""What one series describes: a GPU card, a container on a card, a pod, or who owns a pod."""

CARD_LABELS: Final = ("cluster", "node", "gpu_uuid", "gpu_model")
"""Labels of every card series."""

CONTAINER_LABELS: Final = (
    *CARD_LABELS,
    *("tenant", "namespace", "workload_kind", "workload", "pod", "pod_uid", "container", "priority"),
)
"""Labels of every container series of the agent and the scheduler; limits are values, never labels."""

CARD_KEY: Final = ("cluster", "node", "gpu_uuid")
"""Labels that name a card."""

CONTAINER_KEY: Final = (*CARD_KEY, "namespace", "pod", "pod_uid", "container")
"""Labels that name a container's use of one card."""

POD_LABELS: Final = ("cluster", "namespace", "pod", "pod_uid")
OWNER_LABELS: Final = ("cluster", "namespace", "kind", "name", "owner_kind", "owner_name")


@dataclass(frozen=True, slots=True)
class Metric:
    """One series of ours: ``name`` as exported, ``unit`` as in the name, ``subject`` fixes the labels."""

    name: str
    kind: Kind
    unit: str
    subject: Subject
    help: str


def _card(name: str, unit: str, help_text: str, kind: Kind = "gauge") -> Metric:
    return Metric(f"egpu_gpu_{name}", kind, unit, "card", help_text)


def _container(name: str, unit: str, help_text: str, kind: Kind = "gauge") -> Metric:
    return Metric(f"egpu_container_{name}", kind, unit, "container", help_text)


def _scheduler(name: str, unit: str, subject: Subject, help_text: str) -> Metric:
    return Metric(f"egpu_scheduler_{name}", "gauge", unit, subject, help_text)


GPU_MEMORY_TOTAL: Final = _card("memory_total_bytes", "bytes", "Memory of the card.")
GPU_MEMORY_USED: Final = _card("memory_used_bytes", "bytes", "Memory in use on the card, all processes.")
GPU_MEMORY_FREE: Final = _card(
    "memory_free_bytes", "bytes", "Memory free on the card; accepted, to derive the total where none is given."
)
GPU_MEMORY_RESERVED: Final = _card(
    "memory_reserved_bytes", "bytes", "Memory the driver keeps; accepted, to derive the total."
)
GPU_UTILIZATION: Final = _card("utilization_ratio", "ratio", "Share of time the card ran a kernel, 0-1.")
GPU_MEMORY_BANDWIDTH: Final = _card(
    "memory_bandwidth_ratio", "ratio", "Share of time device memory was read or written, 0-1."
)
GPU_POWER: Final = _card("power_watts", "watts", "Power drawn by the card.")
GPU_TEMPERATURE: Final = _card("temperature_celsius", "celsius", "Temperature of the card.")
GPU_HEALTHY: Final = _card("healthy", "bool", "1 while the card can be allocated.")
GPU_INFO: Final = _card("info", "info", "Facts of the card, value 1.", "info")
CONTAINER_MEMORY_QUOTA: Final = _container("memory_quota_bytes", "bytes", "Memory the container may use on this card.")
CONTAINER_CORE_QUOTA: Final = _container(
    "core_quota_ratio", "ratio", "Share of the card's compute the container may use, 0-1."
)
CONTAINER_MEMORY_USED: Final = _container("memory_used_bytes", "bytes", "Memory the container uses on this card.")
CONTAINER_MEMORY_RESIDENT: Final = _container(
    "memory_resident_bytes", "bytes", "Part of the use that is resident on the card."
)
CONTAINER_MEMORY_HOST: Final = _container(
    "memory_host_bytes", "bytes", "Part of the use that was moved to host memory."
)
CONTAINER_CORE_USED: Final = _container(
    "core_used_ratio", "ratio", "Share of the card's compute the container used, 0-1."
)
CONTAINER_GPU_BUSY: Final = _container(
    "gpu_busy_seconds_total", "seconds", "GPU time the container's kernels took.", "counter"
)
CONTAINER_THROTTLED: Final = _container(
    "throttled_seconds_total", "seconds", "Time launches waited for the compute quota.", "counter"
)
CONTAINER_PREEMPTED: Final = _container(
    "preempted_seconds_total", "seconds", "Time launches waited for a higher priority.", "counter"
)
CONTAINER_SWAPPED: Final = _container(
    "swapped_bytes_total", "bytes", "Bytes moved between card and host, by direction.", "counter"
)
CONTAINER_OUT_OF_MEMORY: Final = _container(
    "out_of_memory_total", "count", "Allocations refused over the memory quota.", "counter"
)
CONTAINER_LAST_SUBMIT_TIMESTAMP: Final = _container(
    "last_submit_timestamp_seconds", "seconds", "Unix time of the last kernel launch."
)
SCHEDULER_GPU_MEMORY_ALLOCATED: Final = _scheduler(
    "gpu_memory_allocated_bytes", "bytes", "card", "Memory of the card given to containers."
)
SCHEDULER_GPU_MEMORY_FREE: Final = _scheduler(
    "gpu_memory_free_bytes", "bytes", "card", "Memory of the card not given to a container."
)
SCHEDULER_GPU_CORE_ALLOCATED: Final = _scheduler(
    "gpu_core_allocated_ratio", "ratio", "card", "Compute of the card given to containers, 0-1."
)
SCHEDULER_GPU_CORE_FREE: Final = _scheduler(
    "gpu_core_free_ratio", "ratio", "card", "Compute of the card not given, 0-1."
)
SCHEDULER_GPU_SHARED_CONTAINERS: Final = _scheduler(
    "gpu_shared_containers", "count", "card", "Containers that hold a part of the card."
)
SCHEDULER_CONTAINER_MEMORY_ALLOCATED: Final = _scheduler(
    "container_memory_allocated_bytes", "bytes", "container", "Memory quota as the scheduler gave it."
)
SCHEDULER_CONTAINER_CORE_ALLOCATED: Final = _scheduler(
    "container_core_allocated_ratio", "ratio", "container", "Compute quota as the scheduler gave it."
)
POD_INFO: Final = Metric("egpu_pod_info", "info", "info", "pod", "A pod exists: its node and uid; from kube_pod_info.")
POD_GPU_CONTAINER_INFO: Final = Metric(
    "egpu_pod_gpu_container_info", "info", "info", "pod", "A container of the pod asked for GPUs."
)
POD_ADVICE_INFO: Final = Metric(
    "egpu_pod_advice_info", "info", "info", "pod", "The pod's advice opt-out, label advice=off."
)
OWNER_INFO: Final = Metric(
    "egpu_owner_info", "info", "info", "owner", "kind/name (a pod, replica set or job) belongs to an owner."
)

METRICS: Final[tuple[Metric, ...]] = (
    GPU_MEMORY_TOTAL,
    GPU_MEMORY_USED,
    GPU_MEMORY_FREE,
    GPU_MEMORY_RESERVED,
    GPU_UTILIZATION,
    GPU_MEMORY_BANDWIDTH,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_HEALTHY,
    GPU_INFO,
    CONTAINER_MEMORY_QUOTA,
    CONTAINER_CORE_QUOTA,
    CONTAINER_MEMORY_USED,
    CONTAINER_MEMORY_RESIDENT,
    CONTAINER_MEMORY_HOST,
    CONTAINER_CORE_USED,
    CONTAINER_GPU_BUSY,
    CONTAINER_THROTTLED,
    CONTAINER_PREEMPTED,
    CONTAINER_SWAPPED,
    CONTAINER_OUT_OF_MEMORY,
    CONTAINER_LAST_SUBMIT_TIMESTAMP,
    SCHEDULER_GPU_MEMORY_ALLOCATED,
    SCHEDULER_GPU_MEMORY_FREE,
    SCHEDULER_GPU_CORE_ALLOCATED,
    SCHEDULER_GPU_CORE_FREE,
    SCHEDULER_GPU_SHARED_CONTAINERS,
    SCHEDULER_CONTAINER_MEMORY_ALLOCATED,
    SCHEDULER_CONTAINER_CORE_ALLOCATED,
    POD_INFO,
    POD_GPU_CONTAINER_INFO,
    POD_ADVICE_INFO,
    OWNER_INFO,
)
"""Every series of ours, in the order of the reference page."""

METRIC_BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}
